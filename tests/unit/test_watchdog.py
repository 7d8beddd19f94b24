import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from services.evaluator.lease import Lease, LeaseSlot, allowed, answer
from services.evaluator.progress_callback import ProgressCallback
from services.evaluator.watchdog import Watchdog
from services.evaluator.worker import Worker
from shared.architecture import dense
from shared.broker import AccessRefusedError, Delivery, InProcessBroker
from shared.failure_policy import EVALUATION_LIMIT_SECONDS
from shared.messages import EvaluationRequest, EvaluationResult, Failure, JointRequest, Measurement
from tests.support.one_by_one import OneByOne
from tests.support.pretending import SHAPE, pretend
from tests.support.searches import small_plan

REQUESTS, RESULTS = "requests.x", "results.small"
PATIENCE_SECONDS = 30


class Slow(OneByOne):
    """Takes until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def evaluate(self, request: EvaluationRequest, progressed: ProgressCallback) -> EvaluationResult:
        assert self.go.wait(PATIENCE_SECONDS)
        return EvaluationResult(identity=request.identity, search=request.search, outcome=pretend(request))


def ask(broker: InProcessBroker) -> EvaluationRequest:
    request = small_plan().request(dense(SHAPE), "search")
    broker.publish(REQUESTS, request.model_dump_json().encode(), RESULTS)
    return request


def overrun(broker: InProcessBroker, meanwhile: Callable[[Slow, Worker], None]) -> list[str]:
    """Have a request take too long, and do something before its failure is told; says what ended."""
    slow, ends, told = Slow(), list[str](), threading.Event()

    def answered() -> None:
        ends.append("watchdog")
        told.set()

    worker = Worker(broker, REQUESTS, slow, ended=lambda: ends.append("worker"))
    watchdog = Watchdog(broker, worker.lease_slot, 0.05, answered)
    ask(broker)
    watchdog.start()
    worker.start()
    meanwhile(slow, worker)
    assert told.wait(PATIENCE_SECONDS)
    slow.go.set()
    worker.join(PATIENCE_SECONDS)
    assert not worker.is_alive()
    worker.check()
    return ends


def outcomes(broker: InProcessBroker) -> list[Measurement | Failure]:
    found = []
    while (delivery := broker.receive(RESULTS, 0)) is not None:
        found.append(EvaluationResult.model_validate_json(delivery.body).outcome)
        delivery.ack()
    return found


def test_an_evaluation_over_the_limit_is_answered_as_timed_out_and_never_again() -> None:
    broker = InProcessBroker()
    assert overrun(broker, lambda slow, worker: None) == ["watchdog"]
    failure = Failure(kind="timed_out", reason="not finished after 0.05 s, the limit of this evaluator")
    assert outcomes(broker) == [failure]
    assert broker.receive(REQUESTS, 0) is None


def test_networks_that_are_asked_for_together_have_the_limit_of_each_but_no_more_than_a_broker_waits() -> None:
    broker = InProcessBroker()
    ask(broker)
    delivery = broker.receive(REQUESTS, 0)
    assert delivery is not None
    request = small_plan().request(dense(SHAPE), "search")
    one, three = (Lease((request,) * number, delivery, began=0, reconnects=0) for number in (1, 3))
    assert (allowed(one, 60), allowed(three, 60)) == (60, 180)
    most = EVALUATION_LIMIT_SECONDS
    assert (allowed(one, most), allowed(three, most), allowed(three, most / 2)) == (most, most, most)


def test_of_networks_that_are_asked_for_together_each_is_told_that_all_took_too_long() -> None:
    broker, slow, told = InProcessBroker(), Slow(), threading.Event()
    plan = small_plan()
    requests = [plan.request(network, "search") for network in (dense(SHAPE), plan.space.smallest())]
    broker.publish(REQUESTS, JointRequest.of(requests).model_dump_json().encode(), RESULTS)
    worker = Worker(broker, REQUESTS, slow)
    watchdog = Watchdog(broker, worker.lease_slot, 0.05, told.set)
    watchdog.start()
    worker.start()
    assert told.wait(PATIENCE_SECONDS)
    slow.go.set()
    worker.join(PATIENCE_SECONDS)
    found = []
    while (delivery := broker.receive(RESULTS, 0)) is not None:
        found.append(EvaluationResult.model_validate_json(delivery.body))
    assert [result.identity for result in found] == [request.identity for request in requests]
    reason = "not finished after 0.1 s, the limit of this evaluator for 2 networks together"
    assert all(result.outcome == Failure(kind="timed_out", reason=reason) for result in found)
    assert all(result.together == 2 for result in found)


def test_an_evaluation_that_ends_while_its_failure_waits_for_the_broker_is_too_late() -> None:
    class Away(InProcessBroker):
        """Takes no result before it is back."""

        def __init__(self) -> None:
            super().__init__()
            self.asked, self.back = threading.Event(), threading.Event()

        def publish(self, queue_name: str, body: bytes, answer_to: str | None = None) -> None:
            if queue_name == RESULTS:
                self.asked.set()
                assert self.back.wait(PATIENCE_SECONDS)
            super().publish(queue_name, body, answer_to)

    def finish(slow: Slow, worker: Worker) -> None:
        assert broker.asked.wait(PATIENCE_SECONDS)
        slow.go.set()
        worker.join(PATIENCE_SECONDS)
        broker.back.set()

    broker = Away()
    assert overrun(broker, finish) == ["watchdog"]
    (outcome,) = outcomes(broker)
    assert isinstance(outcome, Failure)


def test_where_the_broker_refuses_the_failure_the_request_is_left_to_others() -> None:
    class Refusing(InProcessBroker):
        parted: bool = False

        def publish(self, queue_name: str, body: bytes, answer_to: str | None = None) -> None:
            if queue_name == RESULTS:
                raise AccessRefusedError("results.small: the broker refuses")
            super().publish(queue_name, body, answer_to)

        def _settle(self, number: int) -> bool:
            self.parted = True
            return super()._settle(number)

    broker = Refusing()
    assert overrun(broker, lambda slow, worker: None) == ["watchdog"]
    assert not broker.parted


def test_of_many_who_claim_what_is_in_work_one_gets_it() -> None:
    broker, lease_slot = InProcessBroker(), LeaseSlot()
    request = ask(broker)
    delivery = broker.receive(REQUESTS, 0)
    assert delivery is not None
    with ThreadPoolExecutor(8) as threads:
        for _ in range(50):
            lease_slot.hold(Lease((request,), delivery, began=0, reconnects=0))
            claimed = list(threads.map(lambda _: lease_slot.claim(), range(8)))
            assert sum(each is not None for each in claimed) == 1


def test_who_leaves_after_a_lost_connection_parts_with_the_request_that_came_again_but_with_no_other() -> None:
    class Reconnected(InProcessBroker):
        """Delivers something over the new connection."""

        again: Delivery | None = None

        def receive(self, queue_name: str, timeout_seconds: float) -> Delivery | None:
            again, self.again = self.again, None
            return again or super().receive(queue_name, timeout_seconds)

    for other in (False, True):
        broker = Reconnected()
        request = ask(broker)
        lost = broker.receive(REQUESTS, 0)
        if other:
            ask(broker)
            broker.again = broker.receive(REQUESTS, 0)
        else:
            broker.again = lost
        assert lost is not None and broker.again is not None
        broker.counters.reconnects = 1
        result = EvaluationResult(identity=request.identity, search=request.search, outcome=pretend(request))
        assert answer(broker, Lease((request,), lost, began=0, reconnects=0), [result], last=True)
        left = broker.receive(REQUESTS, 0)
        assert (left is not None) == other
