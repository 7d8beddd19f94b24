"""Requests go out to the farm, and are waited for; what is known already is not asked again."""

import time
from collections.abc import Callable, Mapping, Sequence

from services.coordinator.batch import RequestBatch
from services.coordinator.evaluators import Evaluators
from services.coordinator.history import History
from services.coordinator.pending import PendingQueue, PendingRequest
from services.coordinator.result_intake import ResultIntake
from shared.broker import Broker, Delivery, requests_queue, results_queue
from shared.errors import UserError
from shared.events import (
    Events,
    Failed,
    InFlightChanged,
    Measured,
    RequestsResent,
    ResultsReceived,
)
from shared.failure_policy import FAILURES, RESULTS_PREFETCH
from shared.messages import EvaluationRequest, Failure, JointRequest, Measurement, Outcome

POLL_SECONDS = 0.5


class SearchStoppedError(Exception):
    """An operator asked the search to stop. What was measured is stored; the same command resumes it."""


class Dispatcher:
    """Measures networks by sending requests through a broker; what the history knows is not measured again,
    unless it is a failure of an earlier run that may end better now.

    `supernet` is the digest of the search's super-network. Its evaluators measure all but the requests in `owners`,
    which says by identity of which other super-network's evaluators they are asked. What happens is published to
    `events`, of which the first subscriber must store results in `history` (services.coordinator.recorder): they are
    acknowledged once it has.
    """

    def __init__(
        self,
        search: str,
        supernet: str,
        broker: Broker,
        history: History,
        events: Events,
        evaluators: Evaluators,
        clock: Callable[[], float] = time.time,
        owners: Mapping[str, str] | None = None,
    ) -> None:
        self._search = search
        self._supernet, self._owners = supernet, owners or {}
        self._results = results_queue(search)
        self._broker = broker
        self._history = history
        self._events = events
        self._evaluators = evaluators
        self._clock = clock
        self._backlog_received = False
        self._pending = PendingQueue(self._owner)
        self._intake = ResultIntake(broker, history, events, self._pending, began=clock())
        self._failed: set[str] = set()

    def measure(self, requests: Sequence[EvaluationRequest], tolerant: bool = False) -> list[Outcome]:
        """The outcome of every request, in their order: `begin` and `finish` in one."""
        return self.finish(self.begin(requests, tolerant))

    def begin(self, requests: Sequence[EvaluationRequest], tolerant: bool = False) -> RequestBatch:
        """Put requests at the end of the pending queue; they are sent, and results handled, while any batch is being
        finished.

        Each outcome is published as soon as it is there, those that are known already now. With `tolerant` a bad
        request is a failure like others, and the next run tries every failure again. Raises UserError if the history
        says that a request is bad, or if what it holds was measured on different items.
        """
        batch = RequestBatch(tolerant)
        self.extend(batch, requests)
        return batch

    def extend(self, batch: RequestBatch, requests: Sequence[EvaluationRequest]) -> None:
        """Do the same with more requests, which none of the batch's is among, and have the batch wait for them, too."""
        batch.add(requests)
        for request in {request.identity: request for request in requests}.values():
            outcome = self._known(request, batch.tolerant)
            if outcome is not None:
                self._settle([batch], request, outcome)
            elif (pending := self._pending.find(request.identity)) is not None:
                pending.batches.append(batch)
            else:
                # What failed in an earlier run may fail again, and must not take others down.
                failed = self._history.knows(request.identity)
                self._pending.enqueue(PendingRequest(request, [batch], alone=failed))

    def finish(self, batch: RequestBatch) -> list[Outcome]:
        """Wait until every request of a batch has its outcome: these, in the order of the requests.

        Raises UserError if a request turns out to be bad, if evaluators don't agree on what the items are, or if
        results can't be stored; SearchStoppedError if an operator asks for that. Whatever came by then is stored.
        """
        self.wait(batch, len(batch.requests))
        return batch.outcomes

    def wait(self, batch: RequestBatch, answered: int) -> None:
        """Wait until so many of a batch's requests, or all, have their outcomes; more may have them then.

        Raises what `finish` raises.
        """
        while batch.answered < answered and not batch.done:
            if not self._backlog_received:
                self._receive_backlog()
                continue
            self._send()
            deliveries = self._receive(POLL_SECONDS)
            if deliveries:
                self._handle(deliveries)
            else:
                self._evaluators.check()
                self._send_lost()

    def _known(self, request: EvaluationRequest, tolerant: bool) -> Outcome | None:
        """The outcome of a request that needs no evaluator."""
        outcome = self._history.outcome(request.identity)
        if isinstance(outcome, Failure):
            if request.identity in self._failed:
                return outcome
            if tolerant or not FAILURES[outcome.kind].lasting:
                outcome = None
            elif FAILURES[outcome.kind].ends_search:
                raise UserError(outcome.reason)
        elif outcome is not None:
            self._intake.check_items(request, outcome)
        if isinstance(outcome, Measurement):
            self._pending.measured(request, outcome)
            return outcome
        early = self._intake.take_early(request)
        if early is None:
            return outcome
        self._events.publish(ResultsReceived(((request, early),), time.perf_counter()))
        return early

    def _settle(self, batches: Sequence[RequestBatch], request: EvaluationRequest, outcome: Outcome) -> None:
        for batch in batches:
            batch.settle(request, outcome)
        self._events.publish(
            Measured(request, outcome) if isinstance(outcome, Measurement) else Failed(request, outcome)
        )

    def _receive_backlog(self) -> None:
        """Handle the results that came while no coordinator was there, so that nothing is measured again."""
        while deliveries := self._receive(self._evaluators.backlog_seconds):
            self._handle(deliveries)
        self._backlog_received = True

    def _receive(self, timeout_seconds: float) -> list[Delivery]:
        deliveries: list[Delivery] = []
        while len(deliveries) < RESULTS_PREFETCH:
            delivery = self._broker.receive(self._results, 0 if deliveries else timeout_seconds)
            if delivery is None:
                break
            deliveries.append(delivery)
        return deliveries

    def _send(self) -> None:
        """Send as many requests as keep the evaluators busy."""
        self._publish(self._pending.next_to_send(self._evaluators.number, self._clock()))
        self._events.publish(InFlightChanged(len(self._pending.sent)))

    def _send_lost(self) -> None:
        """Send lost requests again. No result waits now, or there would have been a delivery."""
        lost = self._evaluators.lost(self._pending.sent)
        self._publish(self._pending.resend(lost, self._clock()))
        if lost:
            self._events.publish(RequestsResent(len(lost)))

    def _owner(self, request: EvaluationRequest) -> str:
        """Whose evaluators are asked."""
        return self._owners.get(request.identity, self._supernet)

    def _publish(self, messages: Sequence[Sequence[EvaluationRequest]]) -> None:
        bodies: dict[str, list[bytes]] = {}
        for requests in messages:
            message = JointRequest.of(requests) if len(requests) > 1 else requests[0]
            bodies.setdefault(self._owner(requests[0]), []).append(message.model_dump_json().encode())
        for owner, of_owner in bodies.items():
            self._broker.publish_all(requests_queue(owner), of_owner, self._results)

    def _handle(self, deliveries: Sequence[Delivery]) -> None:
        """Store the results, supply the evaluators, acknowledge: in this order, so that nothing is lost on the way."""
        began = time.perf_counter()
        taken_in = self._intake.take_in(deliveries)
        if taken_in.settled:
            results = tuple((pending.request, outcome) for pending, outcome in taken_in.settled)
            self._events.publish(ResultsReceived(results, began))
        ends = taken_in.problem is not None or taken_in.stopped
        if self._backlog_received and not ends:
            self._send()
        for delivery in taken_in.to_acknowledge:
            delivery.ack()
        self._failed |= {each.request.identity for each, outcome in taken_in.settled if isinstance(outcome, Failure)}
        for pending, outcome in taken_in.settled:
            if isinstance(outcome, Measurement):
                self._pending.measured(pending.request, outcome)
            self._settle(pending.batches, pending.request, outcome)
        if taken_in.problem is not None:
            raise taken_in.problem
        if taken_in.stopped:
            raise SearchStoppedError(f"search {self._search} was asked to stop")
