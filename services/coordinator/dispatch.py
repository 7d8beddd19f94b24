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
        self._drained = False
        self._items = ItemConsistency()
        self._supply = PendingQueue()
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
            elif (asked := self._supply.find(request.identity)) is not None:
                asked.batches.append(batch)
            else:
                self._supply.enqueue(PendingRequest(request, [batch]))
        return batch

    def finish(self, batch: Batch) -> list[Outcome]:
        """Wait until every request of a batch has its outcome: these, in the order of the requests.

        Raises UserError if a request turns out to be bad, if evaluators don't agree on what the items are, or if
        results can't be stored; SearchStoppedError if somebody asks for that. Whatever came by then is stored.
        """
        while not batch.done:
            if not self._drained:
                self._drain()
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
        """The outcome of a request that needs no evaluator any more."""
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

    def _drain(self) -> None:
        """Take what came while no coordinator was there, so that it is not asked for again."""
        while deliveries := self._receive(self._evaluators.late_seconds):
            self._handle(deliveries)
        self._drained = True

    def _receive(self, timeout_seconds: float) -> list[Delivery]:
        deliveries: list[Delivery] = []
        while len(deliveries) < RESULTS_PREFETCH:
            delivery = self._broker.receive(self._results, 0 if deliveries else timeout_seconds)
            if delivery is None:
                break
            deliveries.append(delivery)
        return deliveries

    def _send(self) -> None:
        """Give the evaluators what they have room for."""
        self._publish(self._supply.take_for_evaluators(self._evaluators.number, self._clock()))
        self._events.publish(InFlightChanged(len(self._supply.sent)))

    def _send_lost(self) -> None:
        """Send again what nobody has. No result waits now, or there would have been a delivery."""
        lost = self._evaluators.lost(self._supply.sent)
        self._publish([self._supply.sent_again(identity, self._clock()) for identity in lost])
        if lost:
            self._events.publish(RequestsResent(len(lost)))

    def _publish(self, requests: Sequence[EvaluationRequest]) -> None:
        if requests:
            bodies = [request.model_dump_json().encode() for request in requests]
            self._broker.publish_all(self._requests, bodies, self._results)

    def _handle(self, deliveries: Sequence[Delivery]) -> None:
        """Store the results, supply the evaluators, acknowledge: in this order, so that nothing is lost in between."""
        began = time.perf_counter()
        handled = _Handled()
        for delivery in deliveries:
            self._read(delivery, handled)
        if handled.settled:
            results = tuple((asked.request, outcome) for asked, outcome in handled.settled)
            self._events.publish(ResultsReceived(results, began))
        ends = handled.problem is not None or handled.stopped
        if self._drained and not ends:
            self._send()
        for delivery in handled.deliveries:
            delivery.ack()
        self._failed |= {asked.request.identity for asked, outcome in handled.settled if isinstance(outcome, Failure)}
        for asked, outcome in handled.settled:
            self._settle(asked.batches, asked.request, outcome)
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
                self._ask_another(identity, delivery, "an answer that can't be read: see the log", handled)
            return
        if isinstance(message, StopSearch):
            handled.deliveries.append(delivery)
            # One that was sent before this run began was meant for another.
            handled.stopped |= delivery.sent_at is None or delivery.sent_at >= self._began
            return
        asked = self._supply.find(message.identity)
        if asked is not None and isinstance(message.outcome, Measurement):
            flaw = self._history.flaw(asked.request, message.outcome)
            if flaw is not None:
                reason = self._ignore(message.outcome, flaw)
                delivery.reject(reason)
                self._ask_another(message.identity, delivery, reason, handled)
                return
        handled.deliveries.append(delivery)
        if asked is None:
            self._take_unasked(message, handled)
            return
        try:
            if self._settles(asked, delivery, message.outcome):
                self._supply.remove(message.identity)
                handled.settled.append((asked, message.outcome))
        except UserError as problem:
            handled.problem = handled.problem or problem

    def _ignore(self, measurement: Measurement, flaw: str) -> str:
        """Count a measurement that is no answer, and say whose it is."""
        reason = f"evaluator {measurement.worker} answered {flaw}"[:REASON_CHARACTERS]
        log.warning("result ignored: %s", reason)
        self._events.publish(ResultIgnored("invalid"))
        return reason

    def _ask_another(self, identity: str, delivery: Delivery, reason: str, handled: _Handled) -> None:
        """What came was no answer: another evaluator may have a better one, until the retries are used up."""
        asked = self._supply.find(identity)
        if asked is None or not self._supply.is_in_flight(identity) or self._tries_again(asked, delivery):
            return
        self._supply.remove(identity)
        handled.settled.append((asked, Failure(kind="invalid_result", reason=reason)))

    def _settles(self, asked: PendingRequest, delivery: Delivery, outcome: Outcome) -> bool:
        """Whether it is the request's outcome.

        What says nothing about the network is refused before it is stored: a bad request would be bad for every
        network, and networks may only be compared on the same items. Raises UserError then. But of what this run has
        not asked (now), only good news is believed: what was wrong in an earlier run may have been mended.
        """
        in_flight = self._supply.is_in_flight(asked.request.identity)
        problem: str | None = None
        if isinstance(outcome, Measurement):
            problem = self._items.disagreement(asked.request, outcome)
        elif in_flight and FAILURES[outcome.kind].retried and self._tries_again(asked, delivery):
            return False
        elif FAILURES[outcome.kind].ends_search and not all(batch.tolerant for batch in asked.batches):
            problem = outcome.reason
        if not in_flight and (problem or (isinstance(outcome, Failure) and FAILURES[outcome.kind].retried)):
            self._events.publish(ResultIgnored("duplicate"))
            return False
        if problem:
            raise UserError(problem)
        return True

    def _tries_again(self, asked: PendingRequest, delivery: Delivery) -> bool:
        """Whether a failure that may end better is not the last word: the request is at the end of the row again."""
        if delivery.identity in asked.failures:  # a second copy; the answer to what was sent since is still to come
            self._events.publish(ResultIgnored("duplicate"))
            return True
        asked.failures.add(delivery.identity)
        if len(asked.failures) > RETRIES:
            return False
        self._supply.enqueue(asked)
        return True

    def _take_unasked(self, result: EvaluationResult, handled: _Handled) -> None:
        """Ignore what says nothing new, and keep what may be asked for later in this run."""
        known = any(asked.request.identity == result.identity for asked, _ in handled.settled)
        if known or isinstance(result.outcome, Failure) or self._history.knows(result.identity):
            self._events.publish(ResultIgnored("duplicate"))
            return
        self._early[result.identity] = result.outcome
        if len(self._early) > EARLY_RESULTS:
            self._early.popitem(last=False)
