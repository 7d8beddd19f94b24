"""Whether the farm is well: who is alive, what waits, what fails."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.grafana.generator.parts import chart, new_dashboard, stat


def dashboard() -> Dashboard:
    """Services alive, queues, failures, connections."""
    made = new_dashboard("nasfarm-farm", "nasfarm: farm health", "Who is alive, what waits, what fails.")
    _alive(made)
    _queues(made)
    _failures(made)
    _connections(made)
    return made


def _alive(made: Dashboard) -> None:
    age = "(time() - nasfarm_evaluator_progress_timestamp_seconds)"
    at_work = 'nasfarm_evaluator_state{state=~"computing|draining"} == 1'
    made.with_row(Row("Alive"))
    made.with_panel(stat("Evaluators", "That answer Prometheus.", ('sum(up{job="evaluator"})', "evaluators")))
    made.with_panel(
        stat(
            "Coordinators",
            "That answer Prometheus: one for each search.",
            ('sum(up{job="coordinator"})', "coordinators"),
        )
    )
    made.with_panel(stat("RabbitMQ", "1: answers Prometheus.", ('sum(up{job="rabbitmq"})', "nodes")))
    made.with_panel(stat("Alerts", "That fire now.", ('count(ALERTS{alertstate="firing"}) or vector(0)', "firing")))
    made.with_panel(
        chart(
            "Evaluators by state",
            "Idle while requests wait: they aren't connected, or serve another super-network.",
            ("sum by (state) (nasfarm_evaluator_state)", "{{state}}"),
        )
    )
    made.with_panel(
        chart(
            "Time since progress, while computing",
            "A request taken, a batch or a stage finished. Minutes are normal, a quarter of an hour isn't.",
            (f"{age} and on (job, instance) {at_work}", "{{instance}}"),
            unit="s",
        )
    )


def _queues(made: Dashboard) -> None:
    wait = "sum by (le) (rate(nasfarm_evaluator_queue_wait_seconds_bucket[$__rate_interval]))"
    made.with_row(Row("Queues"))
    made.with_panel(
        chart(
            "Messages that wait",
            "Requests: more evaluators would help. Results: no coordinator takes them. Dead letters: look at them.",
            ("sum by (queue) (rabbitmq_detailed_queue_messages_ready)", "{{queue}}"),
        )
    )
    made.with_panel(
        chart(
            "Messages in hand",
            "Taken and not acknowledged: requests that are computed right now.",
            ("sum by (queue) (rabbitmq_detailed_queue_messages_unacked)", "{{queue}}"),
        )
    )
    made.with_panel(
        chart(
            "Consumers",
            "By queue: evaluators of a super-network, the coordinator of a search.",
            ("sum by (queue) (rabbitmq_detailed_queue_consumers)", "{{queue}}"),
        )
    )
    made.with_panel(
        chart(
            "Time in the queue",
            "Of requests, until an evaluator took them.",
            (f"histogram_quantile(0.5, {wait})", "median"),
            (f"histogram_quantile(0.95, {wait})", "95 %"),
            unit="s",
        )
    )


def _failures(made: Dashboard) -> None:
    evaluations = "nasfarm_evaluator_evaluations_total"
    made.with_row(Row("Failures"))
    made.with_panel(
        chart(
            "Evaluations per minute by outcome",
            "Out of memory: networks too large for the machine. Bad request: the search asks for what can't be done.",
            (f"60 * sum by (outcome) (rate({evaluations}[$__rate_interval]))", "{{outcome}}"),
        )
    )
    made.with_panel(
        chart(
            "Share that fails",
            "Of the evaluations of the last 30 minutes. Over 20 % an alert fires.",
            (
                f'sum(increase({evaluations}{{outcome!="measurement"}}[30m])) / sum(increase({evaluations}[30m]))',
                "failures",
            ),
            unit="percentunit",
        )
    )
    made.with_panel(
        chart(
            "Dead letters",
            "Since the start of each service. Unreadable ones often come from services of different releases.",
            ("nasfarm_broker_dead_letters_total", "{{job}} {{instance}} can't read"),
            ("sum by (instance, reason) (nasfarm_coordinator_dead_letters_total)", "{{instance}} {{reason}}"),
        )
    )
    made.with_panel(
        chart(
            "Redeliveries",
            "In the last 30 minutes: messages that somebody lost by a crash, a lost connection or a timeout.",
            ("sum by (job) (increase(nasfarm_broker_redeliveries_total[30m]))", "{{job}}"),
        )
    )


def _connections(made: Dashboard) -> None:
    made.with_row(Row("Connections"))
    made.with_panel(
        chart(
            "Connected to the broker",
            "Services that are, by kind.",
            ("sum by (job) (nasfarm_broker_connected)", "{{job}}"),
        )
    )
    made.with_panel(
        chart(
            "Reconnects",
            "In the last 30 minutes.",
            ("sum by (job) (increase(nasfarm_broker_reconnects_total[30m]))", "{{job}}"),
        )
    )
    made.with_panel(
        chart(
            "Messages per second, published",
            "Confirmed by the broker.",
            ("sum by (job) (rate(nasfarm_broker_messages_published_total[$__rate_interval]))", "{{job}}"),
        )
    )
    made.with_panel(
        chart(
            "Messages per second, received",
            "Redelivered ones included.",
            ("sum by (job) (rate(nasfarm_broker_messages_received_total[$__rate_interval]))", "{{job}}"),
        )
    )
