"""Requests that have no outcome yet: a row in the coordinator, and a few of them in flight."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.coordinator.batch import Batch
from shared.messages import EvaluationRequest
from shared.policy import IN_FLIGHT_PER_EVALUATOR


@dataclass
class PendingRequest:
    """A request without an outcome.

    Attributes:
        request: what is asked.
        batches: who waits for it.
        failures: the messages in which failures came that are tried again.
    """

    request: EvaluationRequest
    batches: list[Batch]
    failures: set[str] = field(default_factory=set)


class PendingQueue:
    """Keeps evaluators supplied, and no more than that: what waits in the coordinator can't be lost on the way."""

    def __init__(self) -> None:
        self._row: OrderedDict[str, PendingRequest] = OrderedDict()
        self._in_flight: dict[str, PendingRequest] = {}
        self._sent: dict[str, float] = {}

    @property
    def sent(self) -> Mapping[str, float]:
        """When (Unix time) each request in flight was sent last, by identity."""
        return self._sent

    def find(self, identity: str) -> PendingRequest | None:
        """What was asked under an identity and has no outcome yet."""
        return self._in_flight.get(identity) or self._row.get(identity)

    def is_in_flight(self, identity: str) -> bool:
        """Whether it was sent, and not answered."""
        return identity in self._in_flight

    def enqueue(self, asked: PendingRequest) -> None:
        """Put it at the end of the row, wherever it was before."""
        self.remove(asked.request.identity)
        self._row[asked.request.identity] = asked

    def take_for_evaluators(self, evaluators: int, now: float) -> list[EvaluationRequest]:
        """What is to be sent so that so many evaluators are supplied; from now on it is in flight.

        Where none is known two are in flight, so that the first one finds something.
        """
        places = IN_FLIGHT_PER_EVALUATOR * max(1, evaluators) - len(self._in_flight)
        taken: list[EvaluationRequest] = []
        while self._row and places > len(taken):
            identity, asked = self._row.popitem(last=False)
            self._in_flight[identity], self._sent[identity] = asked, now
            taken.append(asked.request)
        return taken

    def sent_again(self, identity: str, now: float) -> EvaluationRequest:
        """A request in flight, which is sent once more."""
        self._sent[identity] = now
        return self._in_flight[identity].request

    def remove(self, identity: str) -> None:
        """It has its outcome, or goes elsewhere."""
        self._row.pop(identity, None)
        self._in_flight.pop(identity, None)
        self._sent.pop(identity, None)
