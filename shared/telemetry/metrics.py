"""Metrics of the services, for Prometheus: each service has one object with a registry of its own.

A help text is for the person on call: what the number is, and what a strange one means. Points in time are timestamps,
so that an age stays true when it isn't updated. Every label value that can be is there from the start, as 0: a rate
misses the first event of a series that begins with it. What isn't known yet is NaN. No label names a candidate or a
search; a coordinator serves one search, so its `instance` distinguishes searches.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeVar, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.broker import Broker
from shared.messages import MOST_TOGETHER, Failure, FailureKind, Measurement

MEASUREMENT = "measurement"
OUTCOMES = (MEASUREMENT, *get_args(FailureKind))
STAGES = ("prepare", "cut", "score", "speed", "costs")
"""The phases of `Measurement.seconds`."""

EvaluatorState = Literal["idle", "computing", "pausing", "draining"]
CandidateState = Literal["asked", "measured", "failed"]
DeadLetterReason = Literal["delivery_limit", "unreadable"]

TRAINED_KINDS = ("full", "subnet")
"""What a step of a fine-tuning trains: the whole network, or sub-networks."""

MINUTES = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0)
"""Buckets for what takes an evaluation's time: 5 s to 2 h."""
FROM_MILLISECONDS = (0.01, 0.1, 1.0, *MINUTES)
"""Stages differ: cutting takes milliseconds where scoring takes minutes."""
HANDLING = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


class EvaluatorMetrics:
    """The metrics of an evaluator. `broker` is the one that it takes its requests from."""

    def __init__(self, broker: Broker) -> None:
        make = _Maker("nasfarm_evaluator", broker)
        self.registry = make.registry
        self._evaluations = make.counter(
            "evaluations",
            "Evaluations answered since the start, by outcome: measurement, or the kind of failure. Many "
            "out_of_memory: this machine is too small for the networks. Any unavailable: it can't open a checkpoint. "
            "Any unsupported: it lacks an engine, or is of another release. Any bad_request: the search asks for what "
            "can't be done.",
            {"outcome": OUTCOMES},
        )
        self._duration = make.histogram(
            "evaluation_duration_seconds",
            "Time from taking a request to having its answer, failures included; of networks that were asked for "
            "together, each one's share.",
            MINUTES,
        )
        self._stages = make.histogram(
            "stage_duration_seconds",
            "Time of each stage of a measurement: prepare (load weights and tasks), cut (the sub-network out of the "
            "super-network), score (benchmark questions), speed, costs; of networks that were measured together, each "
            "one's share. A long prepare: the caches are cold or gone.",
            FROM_MILLISECONDS,
            {"stage": STAGES},
        )
        self._items = make.counter("items", "Benchmark questions scored since the start.")
        self._tokens = make.counter(
            "tokens", "Tokens scored since the start; over the time of the score stage, how fast this machine scores."
        )
        self._state = make.gauge(
            "state",
            "1 for the state the evaluator is in: idle (waits for a request), computing, pausing (receives none for up "
            "to a minute after a failure that others may not meet), draining (was asked to stop and finishes what it "
            "has). Idle while requests wait: look at its connection to the broker. Pausing again and again: look at "
            "its log.",
            {"state": get_args(EvaluatorState)},
        )
        self._progress = make.gauge(
            "progress_timestamp_seconds",
            "Unix time at which the evaluator last made progress: received a request, finished a batch or a stage, "
            "answered. Old while it computes: it hangs. Old while it is idle: there are no requests.",
        )
        self._queue_wait = make.histogram(
            "queue_wait_seconds",
            "Time that a message, with one request or several, lay in the queue before this evaluator took it. Long: "
            "more evaluators would help.",
            (0.1, 1.0, *MINUTES),
        )
        self.is_in("idle")
        self.progressed()

    def is_in(self, state: EvaluatorState) -> None:
        """The evaluator has gone into a state."""
        for known in get_args(EvaluatorState):
            self._state.labels(known).set(known == state)

    def progressed(self) -> None:
        """The evaluator has got on just now."""
        self._progress.set_to_current_time()

    def message_received(self, waited_seconds: float | None) -> None:
        """A message was received, which waited in the queue for so long (None where that isn't known)."""
        if waited_seconds is not None:
            self._queue_wait.observe(max(0.0, waited_seconds))  # two machines' clocks never quite agree
        self.progressed()

    def answered(self, outcome: Measurement | Failure, seconds: float) -> None:
        """A request was answered, which took `seconds`."""
        self._duration.observe(seconds)
        if isinstance(outcome, Measurement):
            self._evaluations.labels(MEASUREMENT).inc()
            for stage, spent in outcome.seconds.items():
                self._stages.labels(stage).observe(spent)
            self._items.inc(sum(len(scores.items) for scores in outcome.scores))
            self._tokens.inc(outcome.tokens)
        else:
            self._evaluations.labels(outcome.kind).inc()
        self.progressed()


class CoordinatorMetrics:
    """The metrics of the coordinator of a search. `broker` is the one that it sends its requests through.

    `planned`, `in_flight`, `generation` and `hypervolume` are set, `resent`, `duplicates` and `invalid` counted up, as
    they come.
    """

    def __init__(self, broker: Broker) -> None:
        make = _Maker("nasfarm_coordinator", broker)
        self.registry = make.registry
        self._candidates = make.gauge(
            "candidates",
            "Networks of the search by state: asked (no answer yet), measured, failed; in all its runs.",
            {"state": get_args(CandidateState)},
        )
        self.planned = make.unknown(
            "candidates_planned", "Networks that will have been measured when the search is done: its budget."
        )
        self.in_flight = make.gauge(
            "requests_in_flight",
            "Networks asked for and not answered, while a search runs two messages for each evaluator, of up to "
            f"{MOST_TOGETHER} networks each.",
        )
        self.resent = make.counter(
            "requests_resent",
            "Requests sent again since no answer came in time. Each is a request or a result that was lost on the way.",
        )
        self.duplicates = make.counter(
            "duplicate_results",
            "Results ignored since the same measurement was there already. Harmless; many: work is done twice.",
        )
        self.invalid = make.counter(
            "invalid_results",
            "Results that were no answers to their requests (tasks, items, metric, numbers), and were put aside. "
            "The log names the evaluator: another release, or another lm-eval?",
        )
        self._dead_letters = make.counter(
            "dead_letters",
            "Messages with requests that came back as dead letters, by reason: delivery_limit (each evaluator that "
            "took it died: see their logs), unreadable (evaluators of another release?). The candidate is failed; "
            "several that were asked for together are asked for again one by one.",
            {"reason": get_args(DeadLetterReason)},
        )
        self.generation = make.gauge("generation", "Generations that the search has finished.")
        self.hypervolume = make.unknown(
            "hypervolume",
            "Hypervolume of all networks measured so far: grows as the front gets better. Flat for many generations: "
            "the search has found what it can. Compares within one search only.",
        )
        self._kendall_tau = make.unknown(
            "predictor_kendall_tau",
            "How well the predictor ranked the last generation before it was measured: 1 perfectly, 0 not at all.",
        )
        self._error = make.unknown(
            "predictor_mean_absolute_error",
            "How far the predictor was off on the last generation, on average, in accuracy from 0 to 1.",
        )
        self._last_result = make.unknown(
            "last_result_timestamp_seconds",
            "Unix time of the last result that was stored. Old while requests are in flight: no evaluator answers.",
        )
        self._handling = make.histogram(
            "result_handling_seconds",
            "Time to check and store one result. It must not grow with the history; over 0.1 s the disk is slow.",
            HANDLING,
        )

    def candidates(self, *, asked: int, measured: int, failed: int) -> None:
        """How many networks are in each state."""
        states: dict[CandidateState, int] = {"asked": asked, "measured": measured, "failed": failed}
        for state, number in states.items():
            self._candidates.labels(state).set(number)

    def stored(self, seconds: float) -> None:
        """A result was checked and stored, which took `seconds`."""
        self._handling.observe(seconds)
        self._last_result.set_to_current_time()

    def predicted(self, kendall_tau: float | None, mean_absolute_error: float | None) -> None:
        """How good the predictor was on the generation just measured; None where there is no telling."""
        self._kendall_tau.set(math.nan if kendall_tau is None else kendall_tau)
        self._error.set(math.nan if mean_absolute_error is None else mean_absolute_error)

    def dead_lettered(self, reason: DeadLetterReason) -> None:
        """A request came back as a dead letter."""
        self._dead_letters.labels(reason).inc()


class TrainerMetrics:
    """The metrics of a fine-tuning; of several processes that train together the first one has them."""

    def __init__(self, processes: int) -> None:
        make = _Maker("nasfarm_trainer", None)
        self.registry = make.registry
        self._loss = make.gauge(
            "loss",
            "Running mean of the loss, by the kind of network that is trained: full, subnet. It falls, faster at "
            "first. Rising for long: the learning rate is too high. What sub-networks learn of the whole network alone "
            "(training.distillation: all) is another loss than full's.",
            {"network": TRAINED_KINDS},
        )
        self._step = make.unknown("step", "Steps that are done, those before an interruption included.")
        self._steps = make.unknown("steps_planned", "Steps of the whole fine-tuning.")
        self._left = make.unknown("remaining_seconds", "Time that is left at the pace since the start.")
        self._tokens = make.counter("tokens", "Tokens trained on since the start; its rate is how fast this trains.")
        self._memory = make.unknown(
            "memory_bytes",
            "The most memory of its GPU that the first process has held so far, without a GPU of the machine. Close to "
            "all that there is: training.tokens_per_step lowers it.",
        )
        make.gauge("processes", "Processes that train together.").set(processes)
        self._progress = make.gauge(
            "progress_timestamp_seconds",
            "Unix time at which the last step ended; before the first one, of the start. Old: it hangs, or one of its "
            "processes does.",
        )
        for kind in TRAINED_KINDS:
            self._loss.labels(kind).set(math.nan)
        self._progress.set_to_current_time()

    def stepped(
        self, step: int, steps: int, losses: Mapping[str, float], tokens: int, memory: int, seconds_left: float
    ) -> None:
        """A step has ended, which had so many tokens; the losses that are known, by kind of network."""
        for kind, loss in losses.items():
            self._loss.labels(kind).set(loss)
        self._step.set(step)
        self._steps.set(steps)
        self._left.set(seconds_left)
        self._tokens.inc(tokens)
        self._memory.set(memory)
        self._progress.set_to_current_time()


class _BrokerCollector(Collector):
    """The numbers that a broker keeps itself, read when they are asked for. All that have one have them."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def collect(self) -> Iterator[Metric]:
        counters = self._broker.counters
        yield GaugeMetricFamily(
            "nasfarm_broker_connected",
            "1 while the service is connected to the broker. 0 for long: the broker, the network or the password.",
            float(self._broker.connected),
        )
        yield CounterMetricFamily(
            "nasfarm_broker_reconnects",
            "Connections made again after one was lost. More than a few: look at the network and the broker.",
            counters.reconnects,
        )
        yield CounterMetricFamily(
            "nasfarm_broker_redeliveries",
            "Messages received that another consumer had before and lost, by a crash, a lost connection or a timeout.",
            counters.redelivered,
        )
        yield CounterMetricFamily(
            "nasfarm_broker_dead_letters",
            "Messages that this service made dead letters, as it can't read them. Look at its log, then into the queue "
            "dead-letters. Often services of different releases.",
            counters.rejected,
        )
        yield CounterMetricFamily(
            "nasfarm_broker_announcements_skipped",
            "Announcements whose headers can't be decoded, or that weren't their sender's to make. None should be: "
            "something sends what isn't the farm's.",
            counters.skipped,
        )
        yield CounterMetricFamily(
            "nasfarm_broker_messages_published", "Messages that the broker confirmed to have.", counters.published
        )
        yield CounterMetricFamily(
            "nasfarm_broker_messages_received", "Messages received, redelivered ones included.", counters.received
        )


class _Maker:
    """Makes a service's metrics: in its registry, with its prefix, and with all their label values."""

    def __init__(self, prefix: str, broker: Broker | None) -> None:
        self._prefix = prefix
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        if broker is not None:
            self.registry.register(_BrokerCollector(broker))

    def counter(self, name: str, text: str, labels: Mapping[str, Sequence[str]] | None = None) -> Counter:
        return _with_values(Counter(f"{self._prefix}_{name}", text, labels or (), registry=self.registry), labels)

    def gauge(self, name: str, text: str, labels: Mapping[str, Sequence[str]] | None = None) -> Gauge:
        return _with_values(Gauge(f"{self._prefix}_{name}", text, labels or (), registry=self.registry), labels)

    def unknown(self, name: str, text: str) -> Gauge:
        gauge = self.gauge(name, text)
        gauge.set(math.nan)
        return gauge

    def histogram(
        self, name: str, text: str, buckets: Sequence[float], labels: Mapping[str, Sequence[str]] | None = None
    ) -> Histogram:
        made = Histogram(f"{self._prefix}_{name}", text, labels or (), registry=self.registry, buckets=buckets)
        return _with_values(made, labels)


_M = TypeVar("_M", Counter, Gauge, Histogram)


def _with_values(metric: _M, labels: Mapping[str, Sequence[str]] | None) -> _M:
    for values in (labels or {}).values():
        for value in values:
            metric.labels(value)
    return metric
