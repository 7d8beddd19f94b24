"""How fast evaluators are, and where their time goes."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.generator.parts import (
    CHOSEN,
    DashboardRow,
    chart,
    instances,
    median_and_95,
    new_dashboard,
    stat,
    summed_by,
)

RATE = f"{{{CHOSEN}}}[$__rate_interval]"
COMPUTING = f'nasfarm_evaluator_state{{{CHOSEN}, state="computing"}}'


def dashboard() -> Dashboard:
    """Use, durations, throughput, and what the processes take."""
    return new_dashboard(
        "nasfarm-evaluators",
        "nasfarm: evaluator performance",
        "How fast evaluators are, and where their time goes.",
        _use(),
        _time(),
        _throughput(),
        _process(),
        variable=instances("evaluator", "Evaluator"),
    )


def _use() -> DashboardRow:
    number = f"sum(rate(nasfarm_evaluator_evaluation_duration_seconds_count{{{CHOSEN}}}[30m]))"
    spent = f"sum(rate(nasfarm_evaluator_evaluation_duration_seconds_sum{{{CHOSEN}}}[30m]))"
    busy = (f"avg(avg_over_time({COMPUTING}[10m]))", "busy")
    return DashboardRow(
        "Use",
        [
            stat("Busy", "Share of the last 10 minutes.", busy, unit="percentunit"),
            stat("Computing", "Evaluators that compute right now.", (f"sum({COMPUTING})", "computing")),
            stat("Evaluations per hour", "At the pace of the last 30 minutes.", (f"3600 * {number}", "an hour")),
            stat("Mean evaluation", "Of the last 30 minutes.", (f"{spent} / {number}", "mean"), unit="s"),
        ],
    )


def _time() -> DashboardRow:
    duration = f"sum by (le) (rate(nasfarm_evaluator_evaluation_duration_seconds_bucket{RATE}))"
    spent, stage = summed_by("stage", f"rate(nasfarm_evaluator_stage_duration_seconds_sum{RATE})")
    number, _ = summed_by("stage", f"rate(nasfarm_evaluator_stage_duration_seconds_count{RATE})")
    return DashboardRow(
        "Time",
        [
            chart(
                "Time of an evaluation",
                "From taking the request to having its answer.",
                *median_and_95(duration),
                unit="s",
            ),
            chart(
                "Where the time goes",
                "Seconds a second in each stage, all evaluators together: 2 evaluators have 2 to spend.",
                (spent, stage),
                unit="s",
            ),
            chart("Mean time of each stage", "Of measurements.", (f"{spent} / ({number} > 0)", stage), unit="s"),
            chart(
                "Busy, by evaluator",
                "Share of the last 10 minutes. One that is less busy than the others loses its connection or its "
                "requests.",
                (f"avg_over_time({COMPUTING}[10m])", "{{instance}}"),
                unit="percentunit",
            ),
        ],
    )


def _throughput() -> DashboardRow:
    scoring = f'rate(nasfarm_evaluator_stage_duration_seconds_sum{{{CHOSEN}, stage="score"}}[$__rate_interval])'
    return DashboardRow(
        "Throughput",
        [
            chart(
                "Questions per second",
                "Benchmark items scored, by evaluator.",
                (f"rate(nasfarm_evaluator_items_total{RATE})", "{{instance}}"),
            ),
            chart(
                "Tokens per second of scoring",
                "By evaluator, over the time of the score stage: how fast its machine is.",
                (f"rate(nasfarm_evaluator_tokens_total{RATE}) / on (job, instance) ({scoring} > 0)", "{{instance}}"),
            ),
        ],
    )


def _process() -> DashboardRow:
    memory = (f'process_resident_memory_bytes{{job="evaluator", {CHOSEN}}}', "{{instance}}")
    cores = (f'rate(process_cpu_seconds_total{{job="evaluator", {CHOSEN}}}[$__rate_interval])', "{{instance}}")
    return DashboardRow(
        "Process",
        [
            chart("Memory", "Resident, mapped weights included.", memory, unit="bytes"),
            chart("Cores in use", "CPU seconds a second.", cores),
        ],
    )
