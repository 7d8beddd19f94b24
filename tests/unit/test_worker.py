import logging
import os
import signal
from collections.abc import Iterator

import pytest

from services.evaluator.progress import Progress
from services.evaluator.service import Event, Events, stop_at_signals
from services.evaluator.status import Status, Steadfast
from services.evaluator.worker import Answering, Observer, Worker
from shared.broker import DEAD_LETTERS, Delivery, InProcessBroker, QueueMissingError
from shared.messages import EvaluationRequest, EvaluationResult, Failure, Measurement
from shared.space import dense
from shared.telemetry.metrics import EvaluatorMetrics
from tests.support.searches import SHAPE, pretend, small_plan

REQUESTS, RESULTS = "requests.x", "results.small"


class Pretending:
    """Answers at once; ends the work with the request of that number, and has a bug at another one."""

    def __init__(self, last: int, bug: int = 0) -> None:
        self.asked, self._last, self._bug = 0, last, bug
        self.worker: Worker | None = None

    def evaluate(self, request: EvaluationRequest, progressed: Progress) -> EvaluationResult:
        self.asked += 1
        if self.asked == self._last and self.worker is not None:
            self.worker.stop.set()
        if self.asked == self._bug:
            raise ZeroDivisionError("a bug")
        return EvaluationResult(identity=request.identity, search=request.search, outcome=pretend(request))


def work(
    broker: InProcessBroker,
    pretending: Pretending,
    evaluator: Answering | None = None,
    observer: Observer | None = None,
    requests: int = 2,
) -> None:
    """Have so many requests worked off, as far as the evaluator goes."""
    for _ in range(requests):
        broker.publish(REQUESTS, small_plan().request(dense(SHAPE), "search").model_dump_json().encode(), RESULTS)
    pretending.worker = Worker(broker, REQUESTS, evaluator or pretending, observer)
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
        work(broker, pretending, Steadfast(pretending), Status(broker, metrics, "x", "none"))
    crashed, measured = outcomes(broker)
    assert crashed == Failure(kind="crashed", reason="ZeroDivisionError: a bug", retry_may_help=True)
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


def test_a_request_whose_result_nobody_can_take_is_set_aside_and_others_are_answered() -> None:
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


def test_the_first_signal_tells_to_stop_and_the_second_leaves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    events = Events()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        stop_at_signals(events)
        signal.raise_signal(signal.SIGTERM)
        assert events.get_nowait() is Event.TOLD_TO_STOP and not left
        signal.raise_signal(signal.SIGTERM)
        assert left == [143]
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
