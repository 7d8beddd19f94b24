"""How fast evaluators are, and where their time goes."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.grafana.generator.parts import chart, instances, new_dashboard, stat

CHOSEN = 'instance=~"$instance"'
RATE = f"{{{CHOSEN}}}[$__rate_interval]"


def dashboard() -> Dashboard:
    """Use, durations, throughput, and what the processes take."""
    made = new_dashboard(
        "nasfarm-evaluators", "nasfarm: evaluator performance", "How fast evaluators are, and where their time goes."
    ).with_variable(instances("evaluator", "Evaluator"))
    _use(made)
    _time(made)
    _throughput(made)
    _process(made)
    return made


def _use(made: Dashboard) -> None:
    computing = f'nasfarm_evaluator_state{{{CHOSEN}, state="computing"}}'
    number = f"sum(rate(nasfarm_evaluator_evaluation_duration_seconds_count{{{CHOSEN}}}[30m]))"
    spent = f"sum(rate(nasfarm_evaluator_evaluation_duration_seconds_sum{{{CHOSEN}}}[30m]))"
    made.with_row(Row("Use"))
    made.with_panel(
        stat(
            "Busy",
            "Share of the last 10 minutes.",
            (f"avg(avg_over_time({computing}[10m]))", "busy"),
            unit="percentunit",
        )
    )
    made.with_panel(stat("Computing", "Evaluators that compute right now.", (f"sum({computing})", "computing")))
    made.with_panel(
        stat(
            "Evaluations per hour",
            "At the pace of the last 30 minutes.",
            (f"3600 * {number}", "an hour"),
        )
    )
    made.with_panel(
        stat(
            "Mean evaluation",
            "Of the last 30 minutes.",
            (f"{spent} / {number}", "mean"),
            unit="s",
        )
    )


def _time(made: Dashboard) -> None:
    duration = f"sum by (le) (rate(nasfarm_evaluator_evaluation_duration_seconds_bucket{RATE}))"
    spent = f"sum by (stage) (rate(nasfarm_evaluator_stage_duration_seconds_sum{RATE}))"
    number = f"sum by (stage) (rate(nasfarm_evaluator_stage_duration_seconds_count{RATE}))"
    made.with_row(Row("Time"))
    made.with_panel(
        chart(
            "Time of an evaluation",
            "From taking the request to having its answer.",
            (f"histogram_quantile(0.5, {duration})", "median"),
            (f"histogram_quantile(0.95, {duration})", "95 %"),
            unit="s",
        )
    )
    made.with_panel(
        chart(
            "Where the time goes",
            "Seconds a second in each stage, all evaluators together: 2 evaluators have 2 to spend.",
            (spent, "{{stage}}"),
            unit="s",
        )
    )
    made.with_panel(
        chart("Mean time of each stage", "Of measurements.", (f"{spent} / ({number} > 0)", "{{stage}}"), unit="s")
    )
    made.with_panel(
        chart(
            "Busy, by evaluator",
            "Share of the last 10 minutes. One that is less busy than the others loses its connection or its requests.",
            (f'avg_over_time(nasfarm_evaluator_state{{{CHOSEN}, state="computing"}}[10m])', "{{instance}}"),
            unit="percentunit",
        )
    )


def _throughput(made: Dashboard) -> None:
    scoring = f'rate(nasfarm_evaluator_stage_duration_seconds_sum{{{CHOSEN}, stage="score"}}[$__rate_interval])'
    made.with_row(Row("Throughput"))
    made.with_panel(
        chart(
            "Questions per second",
            "Benchmark items scored, by evaluator.",
            (f"rate(nasfarm_evaluator_items_total{RATE})", "{{instance}}"),
        )
    )
    made.with_panel(
        chart(
            "Tokens per second of scoring",
            "By evaluator, over the time of the score stage: how fast its machine is.",
            (f"rate(nasfarm_evaluator_tokens_total{RATE}) / on (job, instance) ({scoring} > 0)", "{{instance}}"),
        )
    )


def _process(made: Dashboard) -> None:
    made.with_row(Row("Process"))
    made.with_panel(
        chart(
            "Memory",
            "Resident, mapped weights included.",
            (f'process_resident_memory_bytes{{job="evaluator", {CHOSEN}}}', "{{instance}}"),
            unit="bytes",
        )
    )
    made.with_panel(
        chart(
            "Cores in use",
            "CPU seconds a second.",
            (f'rate(process_cpu_seconds_total{{job="evaluator", {CHOSEN}}}[$__rate_interval])', "{{instance}}"),
        )
    )
