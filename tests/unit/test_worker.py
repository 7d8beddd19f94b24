import logging
import os
import signal
from collections.abc import Iterator, Sequence

import pytest

from services.evaluator.progress_callback import ProgressCallback
from services.evaluator.service import ServiceEvent, ServiceEvents, stop_at_signals
from services.evaluator.status import CrashGuard, EvaluatorStatus
from services.evaluator.worker import NullObserver, RequestEvaluator, Worker, WorkerObserver
from shared.architecture import dense
from shared.backoff import Backoff, BackoffLimits
from shared.broker import DEAD_LETTERS, Delivery, InProcessBroker, QueueMissingError
from shared.messages import EvaluationRequest, EvaluationResult, Failure, JointRequest, Measurement
from shared.telemetry.metrics import EvaluatorMetrics
from tests.support.one_by_one import OneByOne
from tests.support.pretending import SHAPE, pretend
from tests.support.searches import small_plan

REQUESTS, RESULTS = "requests.x", "results.small"


class Pretending(OneByOne):
    """Answers at once; ends the work with the request of that number, and has a bug at another one."""

    def __init__(self, last: int, bug: int = 0) -> None:
        self.asked, self._last, self._bug = 0, last, bug
        self.worker: Worker | None = None

    def evaluate(self, request: EvaluationRequest, progressed: ProgressCallback) -> EvaluationResult:
        self.asked += 1
        if self.asked == self._last and self.worker is not None:
            self.worker.stop.set()
        if self.asked == self._bug:
            raise ZeroDivisionError("a bug")
        return EvaluationResult(identity=request.identity, search=request.search, outcome=pretend(request))


def work(
    broker: InProcessBroker,
    pretending: Pretending,
    evaluator: RequestEvaluator | None = None,
    observer: WorkerObserver | None = None,
    requests: int = 2,
    backoff: Backoff | None = None,
) -> None:
    """Have so many requests worked off, as far as the evaluator goes."""
    for _ in range(requests):
        broker.publish(REQUESTS, small_plan().request(dense(SHAPE), "search").model_dump_json().encode(), RESULTS)
    pretending.worker = Worker(broker, REQUESTS, evaluator or pretending, observer, backoff)
    pretending.worker.start()
    pretending.worker.join(30)
    assert not pretending.worker.is_alive()
    pretending.worker.check()


def outcomes(broker: InProcessBroker) -> Iterator[Measurement | Failure]:
    while (delivery := broker.receive(RESULTS, 0)) is not None:
        yield EvaluationResult.model_validate_json(delivery.body).outcome
        delivery.ack()


def test_a_bug_is_a_failure_of_one_request_with_its_traceback_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    broker, pretending = InProcessBroker(), Pretending(last=2, bug=1)
    metrics = EvaluatorMetrics(broker)
    with caplog.at_level(logging.INFO):
        work(broker, pretending, CrashGuard(pretending), EvaluatorStatus(broker, metrics, "x", "none"))
    crashed, measured = outcomes(broker)
    assert crashed == Failure(kind="crashed", reason="ZeroDivisionError: a bug")
    assert isinstance(measured, Measurement)
    assert "in evaluate" in caplog.text and "ZeroDivisionError: a bug" in caplog.text
    for outcome in ("crashed", "measurement"):
        assert metrics.registry.get_sample_value("nasfarm_evaluator_evaluations_total", {"outcome": outcome}) == 1


def test_a_worker_that_is_told_to_stop_answers_what_it_has_and_leaves_the_rest() -> None:
    broker, pretending = InProcessBroker(), Pretending(last=1)
    work(broker, pretending)
    assert len(list(outcomes(broker))) == 1
    assert broker.receive(REQUESTS, 0) is not None


def test_a_request_that_comes_again_after_its_answer_is_not_computed_again() -> None:
    class Repeating(InProcessBroker):
        """Delivers each message twice, as after a connection that was lost before the acknowledgement."""

        again: Delivery | None = None

        def receive(self, queue_name: str, timeout_seconds: float) -> Delivery | None:
            if queue_name == REQUESTS and self.again is not None:
                delivery, self.again = self.again, None
                return delivery
            self.again = super().receive(queue_name, timeout_seconds)
            return self.again

    broker, pretending = Repeating(), Pretending(last=2)
    work(broker, pretending)
    assert pretending.asked == len(list(outcomes(broker))) == 2


def test_a_request_whose_result_cant_be_delivered_is_rejected_and_others_are_answered() -> None:
    class Forgetful(InProcessBroker):
        """Has no queue for the first result."""

        refused = False

        def publish(self, queue_name: str, body: bytes, answer_to: str | None = None) -> None:
            if queue_name == RESULTS and not self.refused:
                self.refused = True
                raise QueueMissingError(f"{queue_name}: no such queue")
            super().publish(queue_name, body, answer_to)

    broker, pretending = Forgetful(), Pretending(last=2)
    work(broker, pretending)
    dead = broker.receive(DEAD_LETTERS, 0)
    assert dead is not None and dead.dead == "results.small: no such queue"
    assert broker.counters.published == 3


class Recording(InProcessBroker):
    """Notes what a worker says to the broker, beside what it finds in the queue."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def stop_receiving(self, queue_name: str) -> None:
        self.said.append("stop receiving")

    def _settle(self, number: int) -> bool:
        self.said.append("part")
        return super()._settle(number)


class Broken(Pretending):
    """Can't measure anything, which others might."""

    def evaluate(self, request: EvaluationRequest, progressed: ProgressCallback) -> EvaluationResult:
        super().evaluate(request, progressed)
        failure = Failure(kind="out_of_memory", reason="too small")
        return EvaluationResult(identity=request.identity, search=request.search, outcome=failure)


def test_pauses_grow_with_failures_in_a_row_that_others_may_not_meet() -> None:
    class Scripted(Pretending):
        """Has these outcomes, one after the other."""

        def evaluate(self, request: EvaluationRequest, progressed: ProgressCallback) -> EvaluationResult:
            answered = super().evaluate(request, progressed)
            return answered.model_copy(update={"outcome": script[self.asked - 1] or answered.outcome})

    class Noting(NullObserver):
        def settled(self, pausing: bool) -> None:
            pauses.append(round(1000 * backoff.seconds))
            assert pausing == (backoff.seconds > 0)

    elsewhere = Failure(kind="crashed", reason="a bug")
    hopeless = Failure(kind="infeasible", reason="too deep")
    script = [None, elsewhere, elsewhere, elsewhere, hopeless, elsewhere, elsewhere, None, *[elsewhere] * 8]
    pauses: list[int] = []
    broker, backoff, scripted = InProcessBroker(), Backoff(BackoffLimits(0.001, 0.06)), Scripted(last=len(script))
    work(broker, scripted, observer=Noting(), requests=len(script), backoff=backoff)
    assert pauses == [0, 1, 2, 4, 0, 1, 2, 0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_a_failing_evaluator_receives_nothing_while_it_pauses_and_stops_at_once() -> None:
    class Observed(NullObserver):
        def settled(self, pausing: bool) -> None:
            assert pausing
            broker.said.append("pausing")
            worker.stop.set()

        def resumed(self) -> None:
            broker.said.append("resumed")

    broker = Recording()
    worker = Worker(broker, REQUESTS, Broken(last=0), Observed(), Backoff(BackoffLimits(1000, 1000)))
    broker.publish(REQUESTS, small_plan().request(dense(SHAPE), "search").model_dump_json().encode(), RESULTS)
    worker.start()
    worker.join(30)
    assert not worker.is_alive()
    worker.check()
    assert broker.said == ["stop receiving", "part", "pausing", "resumed"]


def test_a_worker_without_a_backoff_goes_on_after_failures() -> None:
    broker, broken = Recording(), Broken(last=2)
    work(broker, broken)
    assert [each.kind for each in outcomes(broker) if isinstance(each, Failure)] == ["out_of_memory"] * 2
    assert broker.said[:3] == ["part", "stop receiving", "part"]  # the second is the last that it takes


def test_a_request_that_arrives_while_the_worker_stops_is_requeued() -> None:
    class Late(Recording):
        """Delivers when it is too late."""

        def receive(self, queue_name: str, timeout_seconds: float) -> Delivery | None:
            if pretending.worker is not None:
                pretending.worker.stop.set()
            return super().receive(queue_name, timeout_seconds)

    broker, pretending = Late(), Pretending(last=0)
    work(broker, pretending, requests=1)
    assert pretending.asked == 0
    assert broker.said == ["stop receiving", "part"]
    again = broker.receive(REQUESTS, 0)
    assert again is not None and again.attempt == 2


def test_an_observer_is_told_of_everything_in_order() -> None:
    class Observed:
        def received(self, delivery: Delivery, requests: Sequence[EvaluationRequest]) -> None:
            told.append(f"received {delivery.attempt} {requests[0].search}")

        def progressed(self) -> None:
            told.append("progressed")

        def evaluated(self, results: Sequence[EvaluationResult], seconds: float) -> None:
            assert seconds >= 0 and len(results) == 1
            told.append(f"evaluated, {broker.counters.published} published")

        def settled(self, pausing: bool) -> None:
            assert not pausing
            told.append(f"settled, {broker.counters.published} published")

        def resumed(self) -> None:
            raise AssertionError("there was no pause")

    class Stepping(Pretending):
        def evaluate(self, request: EvaluationRequest, progressed: ProgressCallback) -> EvaluationResult:
            progressed()
            return super().evaluate(request, progressed)

    told: list[str] = []
    broker, stepping = InProcessBroker(), Stepping(last=1)
    work(broker, stepping, observer=Observed(), requests=1)
    assert told == ["received 1 small", "progressed", "evaluated, 1 published", "settled, 2 published"]


def test_each_network_of_a_message_has_a_result_of_its_own_and_counts_once() -> None:
    plan = small_plan()
    requests = [plan.request(network, "search") for network in (dense(SHAPE), plan.space.smallest())]
    broker, pretending = InProcessBroker(), Pretending(last=1)
    metrics = EvaluatorMetrics(broker)
    broker.publish(REQUESTS, JointRequest.of(requests).model_dump_json().encode(), RESULTS)
    status = EvaluatorStatus(broker, metrics, "x", "none")
    announced: list[tuple[str, ...]] = []
    status.changed = lambda: announced.append(status.announcement().candidates)

    class Guarded(OneByOne):
        """Raises at several at once, as at the first one alone."""

        def evaluate(self, request: EvaluationRequest, progressed: ProgressCallback) -> EvaluationResult:
            if request == requests[0]:
                raise ZeroDivisionError("a bug")
            return pretending.evaluate(request, progressed)

    work(broker, pretending, CrashGuard(Guarded()), status, requests=0)
    assert announced[0] == tuple(request.identity for request in requests) and announced[-1] == ()
    crashed, measured = outcomes(broker)
    assert crashed == Failure(kind="crashed", reason="ZeroDivisionError: a bug") and measured == pretend(requests[1])
    assert (status.announcement().measured, status.announcement().failed) == (1, 1)
    assert metrics.registry.get_sample_value("nasfarm_evaluator_evaluation_duration_seconds_count") == 2
    assert metrics.registry.get_sample_value("nasfarm_evaluator_queue_wait_seconds_count") == 1
    assert broker.receive(REQUESTS, 0) is None


def test_networks_that_an_evaluator_was_lost_with_are_evaluated_one_by_one() -> None:
    plan = small_plan()
    requests = [plan.request(network, "search") for network in (dense(SHAPE), plan.space.smallest())]
    broker, pretending = InProcessBroker(), Pretending(last=3)
    groups: list[int] = []

    class Noted(OneByOne):
        def evaluate(self, request: EvaluationRequest, progressed: ProgressCallback) -> EvaluationResult:
            return pretending.evaluate(request, progressed)

        def evaluate_together(
            self, requests: Sequence[EvaluationRequest], progressed: ProgressCallback
        ) -> list[EvaluationResult]:
            groups.append(len(requests))
            return super().evaluate_together(requests, progressed)

    message = JointRequest.of(requests).model_dump_json().encode()
    broker.publish(REQUESTS, message, RESULTS)
    lost = broker.receive(REQUESTS, 0)
    assert lost is not None
    lost.requeue()
    broker.publish(REQUESTS, message, RESULTS)
    work(broker, pretending, Noted(), requests=0)
    assert groups == [1, 1, 2] and list(outcomes(broker)) == [pretend(request) for request in requests] * 2


def test_the_first_signal_tells_to_stop_and_the_second_leaves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    events = ServiceEvents()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        stop_at_signals(events)
        signal.raise_signal(signal.SIGTERM)
        assert events.get_nowait() is ServiceEvent.TOLD_TO_STOP and not left
        signal.raise_signal(signal.SIGTERM)
        assert left == [143]
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
