"""How far the searches are, and how good what they have found is."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.grafana.generator.parts import chart, instances, new_dashboard, stat

CHOSEN = 'instance=~"$instance"'


def dashboard() -> Dashboard:
    """Progress, quality of the front and of the predictor, and the work of the coordinator itself."""
    made = new_dashboard(
        "nasfarm-search", "nasfarm: search progress", "One coordinator serves one search: choose it by its address."
    ).with_variable(instances("coordinator", "Search (coordinator)"))
    _progress(made)
    _quality(made)
    _coordinator(made)
    return made


def _progress(made: Dashboard) -> None:
    candidates = f"nasfarm_coordinator_candidates{{{CHOSEN}"
    planned = f"sum by (instance) (nasfarm_coordinator_candidates_planned{{{CHOSEN}}})"
    answered = f'sum by (instance) ({candidates}, state=~"measured|failed"}})'
    left = f"({planned} - {answered})"
    pace = f'sum by (instance) (deriv({candidates}, state=~"measured|failed"}}[30m]))'
    made.with_row(Row("Progress"))
    made.with_panel(
        stat(
            "Done",
            "Networks answered, of those planned.",
            (f"{answered} / {planned}", "{{instance}}"),
            unit="percentunit",
        )
    )
    made.with_panel(
        stat(
            "Time left",
            "At the pace of the last 30 minutes; no data while nothing is answered.",
            (f"{left} / ({pace} > 0)", "{{instance}}"),
            unit="s",
        )
    )
    made.with_panel(
        stat("Generation", "Generations finished.", (f"nasfarm_coordinator_generation{{{CHOSEN}}}", "{{instance}}"))
    )
    made.with_panel(
        stat(
            "Last result",
            "How long ago the last result was stored.",
            (f"time() - nasfarm_coordinator_last_result_timestamp_seconds{{{CHOSEN}}}", "{{instance}}"),
            unit="s",
        )
    )
    made.with_panel(
        chart(
            "Networks by state",
            "Asked: sent out, no answer yet. Failed ones are in the search's history with their reasons.",
            (f"{candidates}}}", "{{instance}} {{state}}"),
            (planned, "{{instance}} planned"),
        )
    )
    made.with_panel(
        chart(
            "Results per minute",
            "Results stored.",
            (
                f"60 * rate(nasfarm_coordinator_result_handling_seconds_count{{{CHOSEN}}}[$__rate_interval])",
                "{{instance}}",
            ),
        )
    )


def _quality(made: Dashboard) -> None:
    made.with_row(Row("Quality"))
    made.with_panel(
        chart(
            "Hypervolume",
            "Grows as the front gets better. Flat for many generations: the search has found what it can.",
            (f"nasfarm_coordinator_hypervolume{{{CHOSEN}}}", "{{instance}}"),
        )
    )
    made.with_panel(
        chart(
            "Predictor",
            "On each generation, before it was measured. Kendall's tau: 1 ranks perfectly, 0 not at all.",
            (f"nasfarm_coordinator_predictor_kendall_tau{{{CHOSEN}}}", "{{instance}} Kendall's tau"),
            (f"nasfarm_coordinator_predictor_mean_absolute_error{{{CHOSEN}}}", "{{instance}} mean absolute error"),
        )
    )


def _coordinator(made: Dashboard) -> None:
    handling = f"rate(nasfarm_coordinator_result_handling_seconds_bucket{{{CHOSEN}}}[$__rate_interval])"
    made.with_row(Row("Coordinator"))
    made.with_panel(
        chart(
            "Requests in flight",
            "Sent and not answered: about two for each evaluator.",
            (f"nasfarm_coordinator_requests_in_flight{{{CHOSEN}}}", "{{instance}}"),
        )
    )
    made.with_panel(
        chart(
            "Time to handle a result",
            "Must not grow with the history. Over 0.1 s the disk is slow.",
            (f"histogram_quantile(0.5, sum by (instance, le) ({handling}))", "{{instance}} median"),
            (f"histogram_quantile(0.95, sum by (instance, le) ({handling}))", "{{instance}} 95 %"),
            unit="s",
        )
    )
    made.with_panel(
        chart(
            "Sent again, answered twice",
            "Since the start. Some after a crash are normal; more and more: messages get lost.",
            (f"nasfarm_coordinator_requests_resent_total{{{CHOSEN}}}", "{{instance}} requests sent again"),
            (f"nasfarm_coordinator_duplicate_results_total{{{CHOSEN}}}", "{{instance}} results ignored"),
            (f"nasfarm_coordinator_invalid_results_total{{{CHOSEN}}}", "{{instance}} results that were no answers"),
        )
    )
    made.with_panel(
        chart(
            "Requests that came back dead",
            "Since the start. Delivery limit: every evaluator that took it died.",
            (f"nasfarm_coordinator_dead_letters_total{{{CHOSEN}}}", "{{instance}} {{reason}}"),
        )
    )
