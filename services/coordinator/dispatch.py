"""Requests go out to the farm, results come back, each counts once."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.coordinator.batch import Batch
from services.coordinator.evaluators import Evaluators
from services.coordinator.history import History
from services.coordinator.item_consistency import ItemConsistency
from services.coordinator.pending import PendingQueue, PendingRequest
from shared.broker import REASON_CHARACTERS, Broker, Delivery, identity_in, read_result, requests_queue, results_queue
from shared.errors import UserError
from shared.events import (
    DeadLetterReceived,
    Events,
    Failed,
    InFlightChanged,
    Measured,
    RequestsResent,
    ResultIgnored,
    ResultsReceived,
)
from shared.messages import EvaluationRequest, EvaluationResult, Failure, Measurement, Outcome, StopSearch
from shared.policy import FAILURES, RESULTS_PREFETCH, RETRIES

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
EARLY_RESULTS = 1000
"""Measurements kept that were not asked for yet: those of an earlier run whose requests come later in this one."""


class SearchStoppedError(Exception):
    """An operator asked the search to stop. What was measured is stored; the same command resumes it."""


@dataclass
class _Handled:
    """What a few deliveries amount to: results to be stored, deliveries to be acknowledged, reasons to end."""

    settled: list[tuple[PendingRequest, Outcome]] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    problem: UserError | None = None
    stopped: bool = False


class Dispatcher:
    """Measures networks by sending requests through a broker; what the history knows is not measured again,
    unless it is a failure of an earlier run that may end better now.

    `supernet` is the digest of the search's super-network. What happens is published to `events`, of which the first
    subscriber must store results in `history` (services.coordinator.recorder): they are acknowledged once it has.
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
    ) -> None:
        self._search = search
        self._requests = requests_queue(supernet)
        self._results = results_queue(search)
        self._broker = broker
        self._history = history
        self._events = events
        self._evaluators = evaluators
        self._clock = clock
        self._began = clock()
        self._backlog_received = False
        self._items = ItemConsistency()
        self._pending = PendingQueue()
        self._early: OrderedDict[str, Measurement] = OrderedDict()
        self._failed: set[str] = set()

    def measure(self, requests: Sequence[EvaluationRequest], tolerant: bool = False) -> list[Outcome]:
        """The outcome of every request, in their order: `begin` and `finish` in one."""
        return self.finish(self.begin(requests, tolerant))

    def begin(self, requests: Sequence[EvaluationRequest], tolerant: bool = False) -> Batch:
        """Put requests at the end of the pending queue; they are sent, and results handled, while any batch is being
        finished.

        Each outcome is published as soon as it is there, those that are known already now. With `tolerant` a bad
        request is a failure like others, and the next run tries every failure again. Raises UserError if the history
        says that a request is bad, or if what it holds was measured on different items.
        """
        batch = Batch(requests, tolerant)
        for request in batch.requests.values():
            outcome = self._known(request, tolerant)
            if outcome is not None:
                self._settle([batch], request, outcome)
            elif (pending := self._pending.find(request.identity)) is not None:
                pending.batches.append(batch)
            else:
                self._pending.enqueue(PendingRequest(request, [batch]))
        return batch

    def finish(self, batch: Batch) -> list[Outcome]:
        """Wait until every request of a batch has its outcome: these, in the order of the requests.

        Raises UserError if a request turns out to be bad, if evaluators don't agree on what the items are, or if
        results can't be stored; SearchStoppedError if an operator asks for that. Whatever came by then is stored.
        """
        while not batch.done:
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
        return batch.outcomes

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
        elif outcome is not None and (problem := self._items.disagreement(request, outcome)):
            raise UserError(problem)
        early = self._early.pop(request.identity, None)
        if early is None or isinstance(outcome, Measurement):
            return outcome
        if (flaw := self._history.flaw(request, early)) is not None:
            self._ignore(early, flaw)
            return outcome
        if self._items.disagreement(request, early):
            return outcome
        self._events.publish(ResultsReceived(((request, early),), time.perf_counter()))
        return early

    def _settle(self, batches: Sequence[Batch], request: EvaluationRequest, outcome: Outcome) -> None:
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
        self._publish([self._pending.resend(identity, self._clock()) for identity in lost])
        if lost:
            self._events.publish(RequestsResent(len(lost)))

    def _publish(self, requests: Sequence[EvaluationRequest]) -> None:
        if requests:
            bodies = [request.model_dump_json().encode() for request in requests]
            self._broker.publish_all(self._requests, bodies, self._results)

    def _handle(self, deliveries: Sequence[Delivery]) -> None:
        """Store the results, supply the evaluators, acknowledge: in this order, so that nothing is lost on the way."""
        began = time.perf_counter()
        handled = _Handled()
        for delivery in deliveries:
            self._read(delivery, handled)
        if handled.settled:
            results = tuple((pending.request, outcome) for pending, outcome in handled.settled)
            self._events.publish(ResultsReceived(results, began))
        ends = handled.problem is not None or handled.stopped
        if self._backlog_received and not ends:
            self._send()
        for delivery in handled.deliveries:
            delivery.ack()
        self._failed |= {each.request.identity for each, outcome in handled.settled if isinstance(outcome, Failure)}
        for pending, outcome in handled.settled:
            self._settle(pending.batches, pending.request, outcome)
        if handled.problem is not None:
            raise handled.problem
        if handled.stopped:
            raise SearchStoppedError(f"search {self._search} was asked to stop")

    def _read(self, delivery: Delivery, handled: _Handled) -> None:
        message = read_result(self._broker, delivery)
        if delivery.dead is not None:
            limit_reached = delivery.dead == "delivery_limit"
            self._events.publish(DeadLetterReceived("delivery_limit" if limit_reached else "unreadable"))
        if message is None:
            if (identity := identity_in(delivery)) is not None:
                self._events.publish(ResultIgnored("invalid"))
                self._retry_invalid(identity, delivery, "an answer that can't be read: see the log", handled)
            return
        if isinstance(message, StopSearch):
            handled.deliveries.append(delivery)
            # One that was sent before this run began was meant for an earlier one.
            handled.stopped |= delivery.sent_at is None or delivery.sent_at >= self._began
            return
        pending = self._pending.find(message.identity)
        if pending is not None and isinstance(message.outcome, Measurement):
            flaw = self._history.flaw(pending.request, message.outcome)
            if flaw is not None:
                reason = self._ignore(message.outcome, flaw)
                delivery.reject(reason)
                self._retry_invalid(message.identity, delivery, reason, handled)
                return
        handled.deliveries.append(delivery)
        if pending is None:
            self._keep_early(message, handled)
            return
        try:
            if self._settles(pending, delivery, message.outcome):
                self._pending.remove(message.identity)
                handled.settled.append((pending, message.outcome))
        except UserError as problem:
            handled.problem = handled.problem or problem

    def _ignore(self, measurement: Measurement, flaw: str) -> str:
        """Report a measurement that doesn't answer its request; the reason, with its evaluator."""
        reason = f"evaluator {measurement.worker} answered {flaw}"[:REASON_CHARACTERS]
        log.warning("result ignored: %s", reason)
        self._events.publish(ResultIgnored("invalid"))
        return reason

    def _retry_invalid(self, identity: str, delivery: Delivery, reason: str, handled: _Handled) -> None:
        """The result was invalid: another evaluator's may not be, until the retries are used up."""
        pending = self._pending.find(identity)
        if pending is None or not self._pending.is_in_flight(identity) or self._retried(pending, delivery):
            return
        self._pending.remove(identity)
        handled.settled.append((pending, Failure(kind="invalid_result", reason=reason)))

    def _settles(self, pending: PendingRequest, delivery: Delivery, outcome: Outcome) -> bool:
        """Whether it is the request's outcome.

        What says nothing about the network is not stored, and raises UserError: a bad request would be bad for every
        network, and networks may only be compared on the same items. But a result that this run has not asked for (yet)
        counts only if it is a good one: what was wrong in an earlier run may have been fixed since.
        """
        in_flight = self._pending.is_in_flight(pending.request.identity)
        problem: str | None = None
        if isinstance(outcome, Measurement):
            problem = self._items.disagreement(pending.request, outcome)
        elif in_flight and FAILURES[outcome.kind].retried and self._retried(pending, delivery):
            return False
        elif FAILURES[outcome.kind].ends_search and not all(batch.tolerant for batch in pending.batches):
            problem = outcome.reason
        if not in_flight and (problem or (isinstance(outcome, Failure) and FAILURES[outcome.kind].retried)):
            self._events.publish(ResultIgnored("duplicate"))
            return False
        if problem:
            raise UserError(problem)
        return True

    def _retried(self, pending: PendingRequest, delivery: Delivery) -> bool:
        """Whether a request is retried after a failure: then it is at the end of the pending queue again."""
        if delivery.identity in pending.failures:  # a second copy; the retry's result is still to come
            self._events.publish(ResultIgnored("duplicate"))
            return True
        pending.failures.add(delivery.identity)
        if len(pending.failures) > RETRIES:
            return False
        self._pending.enqueue(pending)
        return True

    def _keep_early(self, result: EvaluationResult, handled: _Handled) -> None:
        """Keep a measurement that may be asked for later in this run; ignore anything else that isn't waited for."""
        known = any(pending.request.identity == result.identity for pending, _ in handled.settled)
        if known or isinstance(result.outcome, Failure) or self._history.knows(result.identity):
            self._events.publish(ResultIgnored("duplicate"))
            return
        self._early[result.identity] = result.outcome
        if len(self._early) > EARLY_RESULTS:
            self._early.popitem(last=False)
