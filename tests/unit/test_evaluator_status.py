import threading
import time
from dataclasses import replace

import pytest

from services.evaluator import status as status_module
from services.evaluator.status import EvaluatorStatus
from shared.announcements import EvaluatorAnnouncement
from shared.architecture import dense
from shared.broker import Delivery, InProcessBroker
from shared.messages import EvaluationRequest, EvaluationResult, Failure, Measurement
from shared.periodic_announcer import PeriodicAnnouncer
from shared.telemetry.metrics import EvaluatorMetrics
from tests.support.pretending import SHAPE, pretend
from tests.support.searches import small_plan

REQUEST = small_plan().request(dense(SHAPE), "search")
FAILURE = Failure(kind="out_of_memory", reason="too small")


def answered(outcome: Measurement | Failure, request: EvaluationRequest = REQUEST) -> EvaluationResult:
    return EvaluationResult(identity=request.identity, search=request.search, outcome=outcome)


class Subject:
    """An evaluator's status with what it tells it to."""

    def __init__(self) -> None:
        self.broker = InProcessBroker()
        self.metrics = EvaluatorMetrics(self.broker)
        self.status = EvaluatorStatus(self.broker, self.metrics, "digest", "a device")
        self.changes: list[str] = []
        self.status.changed = lambda: self.changes.append(self.status.announcement().state)

    def delivery(self) -> Delivery:
        self.broker.publish("requests.digest", b"{}")
        delivery = self.broker.receive("requests.digest", 0)
        assert delivery is not None
        return delivery

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"nasfarm_evaluator_{name}", labels)

    def take(self) -> EvaluationRequest:
        self.status.received(self.delivery(), [REQUEST])
        return REQUEST


def test_what_an_evaluator_does_is_announced_and_counted() -> None:
    subject = Subject()
    request = subject.take()
    computing = subject.status.announcement()
    assert (computing.state, computing.search, computing.candidates) == ("computing", "small", (request.identity,))
    assert (computing.supernet, computing.device) == ("digest", "a device")
    subject.status.evaluated([answered(pretend(request))], 2.0)
    assert subject.status.announcement().state == "computing"  # the broker hasn't the result yet
    subject.status.settled(pausing=False)
    subject.take()
    subject.status.evaluated([answered(FAILURE)], 1.0)
    subject.status.settled(pausing=True)
    subject.status.resumed()
    subject.status.drain()
    assert subject.changes == ["computing", "idle", "computing", "pausing", "idle", "draining"]
    subject.status.stop()
    last = subject.status.announcement()
    assert (last.state, last.candidates, last.measured, last.failed) == ("stopped", (), 1, 1)
    assert subject.value("evaluations_total", outcome="measurement") == 1
    assert subject.value("evaluations_total", outcome="out_of_memory") == 1
    assert subject.value("evaluation_duration_seconds_sum") == 3.0


def test_a_draining_evaluator_stays_draining_and_reports_what_is_in_flight() -> None:
    subject = Subject()
    request = subject.take()
    subject.status.drain()
    assert subject.status.announcement().candidates == (request.identity,)
    subject.status.settled(pausing=True)
    last = subject.status.announcement()
    assert (last.state, last.candidates) == ("draining", ())
    assert subject.value("state", state="draining") == 1
    assert subject.status.refusal() == "told to stop"


def test_the_time_in_the_queue_is_observed_where_it_is_known() -> None:
    subject = Subject()
    subject.status.received(replace(subject.delivery(), sent_at=time.time() - 100), [REQUEST])
    subject.status.received(replace(subject.delivery(), sent_at=None), [REQUEST])
    assert subject.value("queue_wait_seconds_count") == 1
    assert subject.value("queue_wait_seconds_sum") == pytest.approx(100, abs=20)


def test_an_evaluation_that_doesn_t_get_on_is_unhealthy_and_nothing_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_module, "NO_PROGRESS_SECONDS", -1)
    subject = Subject()
    assert subject.status.hung() is None
    subject.take()
    assert subject.status.hung() == "evaluation: nothing for 0 s, -1 s are allowed"
    subject.status.evaluated([answered(FAILURE)], 1.0)  # what it waits for now is the broker
    assert subject.status.hung() is None


def test_progress_reaches_health_and_metrics() -> None:
    subject = Subject()
    subject.take()
    before = subject.value("progress_timestamp_seconds")
    beats: list[None] = []
    subject.status.hung.beat = lambda: beats.append(None)  # type: ignore[method-assign]
    subject.status.progressed()
    after = subject.value("progress_timestamp_seconds")
    assert before is not None and after is not None and after > before
    assert len(beats) == 1


def test_an_idle_evaluator_was_not_at_its_queue_before_a_lost_connection_was_made_again() -> None:
    subject = Subject()
    since = subject.status.announcement().since
    assert subject.status.announcement().since == since
    subject.broker.counters.reconnects += 1
    again = subject.status.announcement().since
    assert again > since
    assert subject.status.announcement().since == again


def test_the_announcer_tells_at_once_what_changes_and_the_end() -> None:
    class Heard(InProcessBroker):
        def __init__(self) -> None:
            super().__init__()
            self.states: list[str] = []
            self.told = threading.Semaphore(0)

        def announce(self, body: bytes) -> None:
            self.states.append(EvaluatorAnnouncement.model_validate_json(body).state)
            self.told.release()

    broker, subject = Heard(), Subject()
    announcer = PeriodicAnnouncer(broker, subject.status.announcement)
    subject.status.changed = announcer.changed
    announcer.start()
    assert broker.told.acquire(timeout=5)
    subject.take()
    assert broker.told.acquire(timeout=5)
    subject.status.stop()
    announcer.stop()
    assert broker.states == ["idle", "computing", "stopped"]


def test_one_crash_after_the_other_means_that_the_process_is_broken_but_not_before_they_are_answered() -> None:
    subject = Subject()
    broken: list[int] = []
    subject.status.broken = lambda: broken.append(subject.status.announcement().failed)
    crash = Failure(kind="crashed", reason="a bug")
    for outcome in (crash, crash, FAILURE, crash, crash, crash):
        subject.take()
        subject.status.evaluated([answered(outcome)], 1.0)
        assert broken == []
        subject.status.settled(pausing=True)
    assert broken == [6]
