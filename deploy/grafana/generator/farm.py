"""Whether the farm is well: who is alive, what waits, what fails."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.generator.parts import DashboardRow, chart, median_and_95, new_dashboard, stat, summed_by


def dashboard() -> Dashboard:
    """Services alive, queues, failures, connections."""
    return new_dashboard(
        "nasfarm-farm",
        "nasfarm: farm health",
        "Who is alive, what waits, what fails.",
        _alive(),
        _queues(),
        _training(),
        _failures(),
        _connections(),
    )


def _alive() -> DashboardRow:
    age = "(time() - nasfarm_evaluator_progress_timestamp_seconds)"
    at_work = 'nasfarm_evaluator_state{state=~"computing|draining"} == 1'
    coordinators = ('sum(up{job="coordinator"})', "coordinators")
    return DashboardRow(
        "Alive",
        [
            stat("Evaluators", "That answer Prometheus.", ('sum(up{job="evaluator"})', "evaluators")),
            stat("Coordinators", "That answer Prometheus: one for each search.", coordinators),
            stat("RabbitMQ", "1: answers Prometheus.", ('sum(up{job="rabbitmq"})', "nodes")),
            stat("Alerts", "That fire now.", ('count(ALERTS{alertstate="firing"}) or vector(0)', "firing")),
            chart(
                "Evaluators by state",
                "Idle while requests wait: they aren't connected, or serve another super-network.",
                summed_by("state", "nasfarm_evaluator_state"),
            ),
            chart(
                "Time since progress, while computing",
                "A request received, a batch or a stage finished. Minutes are normal, a quarter of an hour isn't.",
                (f"{age} and on (job, instance) {at_work}", "{{instance}}"),
                unit="s",
            ),
        ],
    )


def _queues() -> DashboardRow:
    wait = "sum by (le) (rate(nasfarm_evaluator_queue_wait_seconds_bucket[$__rate_interval]))"
    return DashboardRow(
        "Queues",
        [
            chart(
                "Messages that wait",
                "Requests: more evaluators would help. Results: no coordinator takes them. Dead letters: look at them.",
                summed_by("queue", "rabbitmq_detailed_queue_messages_ready"),
            ),
            chart(
                "Messages in flight",
                "Delivered and not acknowledged: requests that are computed right now.",
                summed_by("queue", "rabbitmq_detailed_queue_messages_unacked"),
            ),
            chart(
                "Consumers",
                "By queue: evaluators of a super-network, the coordinator of a search.",
                summed_by("queue", "rabbitmq_detailed_queue_consumers"),
            ),
            chart("Time in the queue", "Of requests, until an evaluator took them.", *median_and_95(wait), unit="s"),
        ],
    )


def _training() -> DashboardRow:
    trainer = "nasfarm_trainer_"
    return DashboardRow(
        "Training",
        [
            stat(
                "Done",
                "Steps that are done, of those planned. No data: nothing is trained.",
                (f"{trainer}step / {trainer}steps_planned", "{{instance}}"),
                unit="percentunit",
            ),
            stat(
                "Time left", "At the pace since its start.", (f"{trainer}remaining_seconds", "{{instance}}"), unit="s"
            ),
            stat(
                "Memory",
                "The most that was held, of a GPU where there is one.",
                (f"{trainer}memory_bytes", "{{instance}}"),
                unit="bytes",
            ),
            stat(
                "Last step",
                "How long ago it ended. An alert fires after a quarter of an hour.",
                (f"time() - {trainer}progress_timestamp_seconds", "{{instance}}"),
                unit="s",
            ),
            chart(
                "Loss",
                "Running means. Rising for long: the learning rate is too high.",
                (f"{trainer}loss", "{{instance}} {{network}}"),
            ),
            chart(
                "Tokens per second",
                "That are trained on, by all processes together.",
                (f"rate({trainer}tokens_total[$__rate_interval])", "{{instance}}"),
            ),
        ],
    )


def _failures() -> DashboardRow:
    evaluations = "nasfarm_evaluator_evaluations_total"
    failed = f'sum(increase({evaluations}{{outcome!="measurement"}}[30m])) / sum(increase({evaluations}[30m]))'
    return DashboardRow(
        "Failures",
        [
            chart(
                "Evaluations per minute by outcome",
                "Out of memory: networks too large for the machine. Bad request: the search asks for what can't be "
                "done.",
                (f"60 * sum by (outcome) (rate({evaluations}[$__rate_interval]))", "{{outcome}}"),
            ),
            chart(
                "Share that fails",
                "Of the evaluations of the last 30 minutes. Over 20 % an alert fires.",
                (failed, "failures"),
                unit="percentunit",
            ),
            chart(
                "Dead letters",
                "Since the start of each service. Unreadable ones often come from services of different releases.",
                ("nasfarm_broker_dead_letters_total", "{{job}} {{instance}} can't read"),
                ("sum by (instance, reason) (nasfarm_coordinator_dead_letters_total)", "{{instance}} {{reason}}"),
            ),
            chart(
                "Redeliveries",
                "In the last 30 minutes: messages that a consumer lost by a crash, a lost connection or a timeout.",
                summed_by("job", "increase(nasfarm_broker_redeliveries_total[30m])"),
            ),
        ],
    )


def _connections() -> DashboardRow:
    published, received = (
        summed_by("job", f"rate(nasfarm_broker_messages_{what}_total[$__rate_interval])")
        for what in ("published", "received")
    )
    reconnects = summed_by("job", "increase(nasfarm_broker_reconnects_total[30m])")
    return DashboardRow(
        "Connections",
        [
            chart(
                "Connected to the broker", "Services that are, by kind.", summed_by("job", "nasfarm_broker_connected")
            ),
            chart("Reconnects", "In the last 30 minutes.", reconnects),
            chart("Messages per second, published", "Confirmed by the broker.", published),
            chart("Messages per second, received", "Redelivered ones included.", received),
        ],
    )
