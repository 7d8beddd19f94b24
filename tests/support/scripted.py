"""A farm in which nothing runs by itself and no time passes: a test decides what happens, and when."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from pydantic import TypeAdapter

from services.coordinator.dispatch import Dispatcher
from services.coordinator.evaluators import AnnouncedEvaluators, Evaluators
from services.coordinator.history import History
from services.coordinator.plan import SearchPlan
from services.coordinator.recorder import HistoryRecorder
from services.coordinator.search_metrics import SearchMetrics
from shared.announcements import EvaluatorAnnouncement
from shared.broker import BrokerCounters, Delivery, InProcessBroker, requests_queue, results_queue
from shared.events import Events
from shared.messages import (
    REQUEST_VERSION,
    EvaluationRequest,
    EvaluationResult,
    EvaluatorMessage,
    Failure,
    JointRequest,
    Outcome,
)
from shared.telemetry.metrics import CoordinatorMetrics
from tests.support.pretending import pretend
from tests.support.searches import small_plan

PLAN = small_plan()
REQUESTS = [
    PLAN.request(network, "search")
    for depth in (8, 7, 6)
    for network in (PLAN.space.largest(depth), PLAN.space.smallest(depth))
]
TRANSIENT = Failure(kind="out_of_memory", reason="too little")
FINAL = Failure(kind="infeasible", reason="no such network")

REQUEST_MESSAGE: TypeAdapter[EvaluationRequest | JointRequest] = TypeAdapter(EvaluatorMessage)

Act = Callable[[EvaluationRequest], Outcome | None]


class CoordinatorConnection:
    """What a coordinator sees of a broker. Whenever it would wait for something, `turn` is called instead."""

    pumped_at = 0.0
    connected = True

    def __init__(self, broker: InProcessBroker, turn: Callable[[], None]) -> None:
        self.counters = BrokerCounters()
        self._broker = broker
        self._turn = turn
        self._unsettled: dict[str, Delivery] = {}
        self._last: Delivery | None = None
        self._again: list[Delivery] = []
        self.published: list[int] = []
        """How many messages each publishing had."""

    def publish(self, queue_name: str, body: bytes, answer_to: str | None = None) -> None:
        self.publish_all(queue_name, [body], answer_to)

    def publish_all(self, queue_name: str, bodies: Sequence[bytes], answer_to: str | None = None) -> None:
        self.published.append(len(bodies))
        self._broker.publish_all(queue_name, bodies, answer_to)

    def announce(self, body: bytes) -> None:
        self._broker.announce(body)

    def announced(self, seconds: float) -> list[bytes]:
        return self._broker.announced(seconds)

    def receive(self, queue_name: str, timeout_seconds: float) -> Delivery | None:
        delivery = self._broker.receive(queue_name, 0)
        if delivery is None and timeout_seconds > 0:
            self._turn()
            delivery = self._broker.receive(queue_name, 0)
        if delivery is None:
            return self._again.pop() if self._again else None
        taken = self._last = delivery

        def ack() -> None:
            self._unsettled.pop(taken.identity, None)
            taken.ack()

        self._unsettled[taken.identity] = taken
        return replace(taken, ack=ack)

    def deliver_again(self) -> None:
        """The message that was delivered last comes once more, as after a lost acknowledgement."""
        if self._last is not None:
            self._again.append(replace(self._last, attempt=2, ack=lambda: None, requeue=lambda: None))

    def stop_receiving(self, queue_name: str) -> None:
        """Nothing is delivered unasked."""

    def close(self) -> None:
        """What was not acknowledged goes back, as when a connection is lost."""
        for delivery in reversed(self._unsettled.values()):
            delivery.requeue()
        self._unsettled.clear()


class ScriptedFarm:
    """A broker, a clock, and evaluators by name that do what the test says."""

    def __init__(self, plan: SearchPlan) -> None:
        self.plan = plan
        self.broker = InProcessBroker()
        self.now = 1_000_000.0
        self.turn: Callable[[], None] = lambda: None
        self.requests = requests_queue(plan.supernet.digest)
        self.results = results_queue(plan.settings.name)

    def coordinator(
        self, history: History, evaluators: Evaluators | None = None, events: Events | None = None
    ) -> tuple[Dispatcher, CoordinatorConnection, CoordinatorMetrics]:
        """A coordinator's life: its dispatcher, which publishes to `events`, its connection, its metrics."""
        connection = CoordinatorConnection(self.broker, self._wait)
        metrics, digest = CoordinatorMetrics(connection), self.plan.supernet.digest
        announced = AnnouncedEvaluators(connection, digest, lambda others: None, lambda: self.now)
        events = events or Events()
        events.subscribe(HistoryRecorder(history), first=True)
        events.subscribe(SearchMetrics(metrics))
        dispatcher = Dispatcher(
            self.plan.settings.name, digest, connection, history, events, evaluators or announced, lambda: self.now
        )
        return dispatcher, connection, metrics

    def _wait(self) -> None:
        self.turn()

    def announce(self, name: str, delivery: Delivery | None = None, idle_for: float = 0.0) -> None:
        """An evaluator announces what it computes, or for how long it has been idle."""
        announcement = EvaluatorAnnouncement(
            requests=REQUEST_VERSION,
            sent_at=self.now,
            name=name,
            supernet=self.plan.supernet.digest,
            device="none",
            state="idle" if delivery is None else "computing",
            since=self.now - idle_for,
            candidates=() if delivery is None else tuple(each.identity for each in requests_in(delivery)),
        )
        self.broker.announce(announcement.model_dump_json().encode())

    def take(self) -> Delivery | None:
        """The next request of the queue."""
        return self.broker.receive(self.requests, 0)

    def take_all(self) -> list[Delivery]:
        """All requests of the queue."""
        taken = []
        while (delivery := self.take()) is not None:
            taken.append(delivery)
        return taken

    def answer(self, request: EvaluationRequest, outcome: Outcome) -> None:
        """A result comes."""
        result = EvaluationResult(identity=request.identity, search=request.search, outcome=outcome)
        self.broker.publish(self.results, result.model_dump_json().encode())


def requests_in(delivery: Delivery) -> tuple[EvaluationRequest, ...]:
    """The requests that were delivered in one message."""
    message = REQUEST_MESSAGE.validate_json(delivery.body)
    return message.each if isinstance(message, JointRequest) else (message,)


def request_in(delivery: Delivery) -> EvaluationRequest:
    """The only request that was delivered."""
    (request,) = requests_in(delivery)
    return request


def value(metrics: CoordinatorMetrics, name: str, **labels: str) -> float | None:
    """The value of a coordinator's metric now."""
    return metrics.registry.get_sample_value(f"nasfarm_coordinator_{name}", labels)


def acting(world: ScriptedFarm, act: Act = pretend) -> list[str]:
    """Let an evaluator answer one message whenever the coordinator waits; the identities of all that it took."""
    seen: list[str] = []

    def turn() -> None:
        delivery = world.take()
        if delivery is not None:
            for request in requests_in(delivery):
                seen.append(request.identity)
                outcome = act(request)
                if outcome is not None:
                    world.answer(request, outcome)
            delivery.ack()

    world.turn = turn
    return seen


def fails(times: int, failure: Failure, of: EvaluationRequest) -> Act:
    """An evaluator that fails so many times at one request."""
    left = iter(range(times))
    return lambda request: (
        failure if request.identity == of.identity and next(left, None) is not None else pretend(request)
    )


def waiting(world: ScriptedFarm) -> list[EvaluationResult]:
    """The results that are still in the queue."""
    found = []
    while (delivery := world.broker.receive(world.results, 0)) is not None:
        found.append(EvaluationResult.model_validate_json(delivery.body))
    return found
