"""Requests that have no outcome yet: a queue in the coordinator, and a few of them in flight."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import ceil

from services.coordinator.batch import RequestBatch
from services.coordinator.neighbours import divided
from shared.failure_policy import IN_FLIGHT_PER_EVALUATOR, TOGETHER_SECONDS
from shared.messages import MOST_TOGETHER, EvaluationRequest, EvaluationSpec, Measurement


@dataclass
class PendingRequest:
    """A request without an outcome.

    Attributes:
        request: the request.
        batches: those that wait for its outcome.
        failures: the messages in which failures came after which it was retried.
        alone: it is asked for by itself, as something went wrong before, of which it may be the cause.
    """

    request: EvaluationRequest
    batches: list[RequestBatch]
    failures: set[str] = field(default_factory=set)
    alone: bool = False


class PendingQueue:
    """Chooses as many requests to send as keep the evaluators busy, and no more: what waits in the coordinator can't
    get lost on the way, and leaves room for other searches. Requests of a batch that differ in nothing but the
    architecture are sent together, as many in a message as there are for each place (IN_FLIGHT_PER_EVALUATOR).

    `owner`: whose evaluators a request is sent to.
    """

    def __init__(self, owner: Callable[[EvaluationRequest], str]) -> None:
        self._owner = owner
        self._waiting: OrderedDict[str, PendingRequest] = OrderedDict()
        self._in_flight: dict[str, PendingRequest] = {}
        self._sent: dict[str, float] = {}
        self._messages: dict[str, int] = {}  # in flight, by identity: the number of the message
        self._numbers = count()
        self._seconds: dict[EvaluationSpec, float] = {}

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

    def next_to_send(self, evaluators: int, now: float) -> list[list[EvaluationRequest]]:
        """The messages to send so that so many evaluators are busy, each as the requests in it; from now on they are in
        flight.

        As for one evaluator where none is known, so that the first one finds something; but nothing together, which
        many that come at once couldn't divide among them.
        """
        free = IN_FLIGHT_PER_EVALUATOR * max(1, evaluators) - len(set(self._messages.values()))
        messages: list[list[EvaluationRequest]] = []
        while self._waiting and free > len(messages):
            for requests in self._first_messages(evaluators)[: free - len(messages)]:
                number = next(self._numbers)
                for request in requests:
                    self._in_flight[request.identity] = self._waiting.pop(request.identity)
                    self._sent[request.identity], self._messages[request.identity] = now, number
                messages.append(requests)
        return messages

    def measured(self, request: EvaluationRequest, measurement: Measurement) -> None:
        """How long such a request takes is known, where the measurement says it."""
        if measurement.seconds:
            self._seconds[request.spec] = sum(measurement.seconds.values())

    def _first_messages(self, evaluators: int) -> list[list[EvaluationRequest]]:
        """The first request that waits and all that may be sent together with it, as messages; that in which the first
        one is comes first."""
        first = next(iter(self._waiting.values()))
        spec = first.request.spec
        if (
            not evaluators
            or first.alone
            or spec not in self._seconds
            or spec.speed is not None
            or spec.costs is not None
        ):
            return [[first.request]]
        company = [each.request for each in self._waiting.values() if self._may_join(each, first)]
        # One evaluator has nobody to share the rest with.
        left = len(company) + (len(self._in_flight) if evaluators == 1 else 0)
        most = min(MOST_TOGETHER, ceil(left / (IN_FLIGHT_PER_EVALUATOR * evaluators)), self._in_time(spec))
        places = {request.identity: place for place, request in enumerate(company)}
        return sorted(divided(company, most), key=lambda some: min(places[each.identity] for each in some))

    def _may_join(self, pending: PendingRequest, first: PendingRequest) -> bool:
        one, other = pending.request, first.request
        return (
            not pending.alone
            and (one.spec, one.checkpoint, self._owner(one)) == (other.spec, other.checkpoint, self._owner(other))
            and any(batch in first.batches for batch in pending.batches)
        )

    def _in_time(self, spec: EvaluationSpec) -> int:
        """How many such requests are done in TOGETHER_SECONDS, at least one."""
        seconds = self._seconds[spec]
        return MOST_TOGETHER if seconds <= 0 else max(1, int(TOGETHER_SECONDS / seconds))

    def resend(self, identities: Sequence[str], now: float) -> list[list[EvaluationRequest]]:
        """The messages in which requests in flight are sent once more: each in one of its own."""
        for identity in identities:
            self._sent[identity], self._messages[identity] = now, next(self._numbers)
        return [[self._in_flight[identity].request] for identity in identities]

    def remove(self, identity: str) -> None:
        """It has its outcome, or moves within the queue."""
        self._waiting.pop(identity, None)
        self._in_flight.pop(identity, None)
        self._sent.pop(identity, None)
        self._messages.pop(identity, None)
