"""How far the searches are, and how good what they have found is."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.generator.parts import (
    CHOSEN,
    DashboardRow,
    Query,
    chart,
    instances,
    median_and_95,
    new_dashboard,
    stat,
)


def dashboard() -> Dashboard:
    """Progress, quality of the front and of the predictor, and the work of the coordinator itself."""
    return new_dashboard(
        "nasfarm-search",
        "nasfarm: search progress",
        "One coordinator serves one search: choose it by its address.",
        _progress(),
        _quality(),
        _coordinator(),
        variable=instances("coordinator", "Search (coordinator)"),
    )


def _metric(name: str, legend: str = "{{instance}}") -> Query:
    """A metric of the chosen coordinators."""
    return f"nasfarm_coordinator_{name}{{{CHOSEN}}}", legend


def _progress() -> DashboardRow:
    candidates = f"nasfarm_coordinator_candidates{{{CHOSEN}"
    planned = f"sum by (instance) (nasfarm_coordinator_candidates_planned{{{CHOSEN}}})"
    answered = f'sum by (instance) ({candidates}, state=~"measured|failed"}})'
    left = f"({planned} - {answered})"
    pace = f'sum by (instance) (deriv({candidates}, state=~"measured|failed"}}[30m]))'
    handled = f"nasfarm_coordinator_result_handling_seconds_count{{{CHOSEN}}}[$__rate_interval]"
    done = (f"{answered} / {planned}", "{{instance}}")
    return DashboardRow(
        "Progress",
        [
            stat("Done", "Networks answered, of those planned.", done, unit="percentunit"),
            stat(
                "Time left",
                "At the pace of the last 30 minutes; no data while nothing is answered.",
                (f"{left} / ({pace} > 0)", "{{instance}}"),
                unit="s",
            ),
            stat("Generation", "Generations finished.", _metric("generation")),
            stat(
                "Last result",
                "How long ago the last result was stored.",
                (f"time() - nasfarm_coordinator_last_result_timestamp_seconds{{{CHOSEN}}}", "{{instance}}"),
                unit="s",
            ),
            chart(
                "Networks by state",
                "Asked: sent out, no answer yet. Failed ones are in the search's history with their reasons.",
                _metric("candidates", "{{instance}} {{state}}"),
                (planned, "{{instance}} planned"),
            ),
            chart("Results per minute", "Results stored.", (f"60 * rate({handled})", "{{instance}}")),
        ],
    )


def _quality() -> DashboardRow:
    return DashboardRow(
        "Quality",
        [
            chart(
                "Hypervolume",
                "Grows as the front gets better. Flat for many generations: the search has found what it can.",
                _metric("hypervolume"),
            ),
            chart(
                "Predictor",
                "On each generation, before it was measured. Kendall's tau: 1 ranks perfectly, 0 not at all.",
                _metric("predictor_kendall_tau", "{{instance}} Kendall's tau"),
                _metric("predictor_mean_absolute_error", "{{instance}} mean absolute error"),
            ),
        ],
    )


def _coordinator() -> DashboardRow:
    handling = f"rate(nasfarm_coordinator_result_handling_seconds_bucket{{{CHOSEN}}}[$__rate_interval])"
    return DashboardRow(
        "Coordinator",
        [
            chart(
                "Requests in flight",
                "Networks sent and not answered, in about two messages for each evaluator.",
                _metric("requests_in_flight"),
            ),
            chart(
                "Time to handle a result",
                "Must not grow with the history. Over 0.1 s the disk is slow.",
                *median_and_95(f"sum by (instance, le) ({handling})", "{{instance}} "),
                unit="s",
            ),
            chart(
                "Sent again, answered twice",
                "Since the start. Some after a crash are normal; more and more: messages get lost.",
                _metric("requests_resent_total", "{{instance}} requests sent again"),
                _metric("duplicate_results_total", "{{instance}} results ignored"),
                _metric("invalid_results_total", "{{instance}} results that were no answers"),
            ),
            chart(
                "Requests that came back dead",
                "Since the start. Delivery limit: every evaluator that took it died.",
                _metric("dead_letters_total", "{{instance}} {{reason}}"),
            ),
        ],
    )
