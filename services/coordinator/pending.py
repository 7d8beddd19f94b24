"""Requests that have no outcome yet: a queue in the coordinator, and a few of them in flight."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.coordinator.batch import RequestBatch
from shared.failure_policy import IN_FLIGHT_PER_EVALUATOR
from shared.messages import EvaluationRequest


@dataclass
class PendingRequest:
    """A request without an outcome.

    Attributes:
        request: the request.
        batches: those that wait for its outcome.
        failures: the messages in which failures came after which it was retried.
    """

    request: EvaluationRequest
    batches: list[RequestBatch]
    failures: set[str] = field(default_factory=set)


class PendingQueue:
    """Chooses as many requests to send as keep the evaluators busy, and no more: what waits in the coordinator can't
    get lost on the way, and leaves room for other searches."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, PendingRequest] = OrderedDict()
        self._in_flight: dict[str, PendingRequest] = {}
        self._sent: dict[str, float] = {}

    @property
    def sent(self) -> Mapping[str, float]:
        """When (Unix time) each request in flight was sent last, by identity."""
        return self._sent

    def find(self, identity: str) -> PendingRequest | None:
        """The request of an identity that has no outcome yet."""
        return self._in_flight.get(identity) or self._waiting.get(identity)

    def is_in_flight(self, identity: str) -> bool:
        """Whether it was sent and not answered."""
        return identity in self._in_flight

    def enqueue(self, pending: PendingRequest) -> None:
        """Put it at the end of the queue, wherever it was before."""
        self.remove(pending.request.identity)
        self._waiting[pending.request.identity] = pending

    def next_to_send(self, evaluators: int, now: float) -> list[EvaluationRequest]:
        """The requests to send so that so many evaluators are busy; from now on they are in flight.

        As for one evaluator where none is known, so that the first one finds something.
        """
        places = IN_FLIGHT_PER_EVALUATOR * max(1, evaluators) - len(self._in_flight)
        requests: list[EvaluationRequest] = []
        while self._waiting and places > len(requests):
            identity, pending = self._waiting.popitem(last=False)
            self._in_flight[identity], self._sent[identity] = pending, now
            requests.append(pending.request)
        return requests

    def resend(self, identity: str, now: float) -> EvaluationRequest:
        """A request in flight, to be sent once more."""
        self._sent[identity] = now
        return self._in_flight[identity].request

    def remove(self, identity: str) -> None:
        """It has its outcome, or moves within the queue."""
        self._waiting.pop(identity, None)
        self._in_flight.pop(identity, None)
        self._sent.pop(identity, None)
