"""What a coordinator makes of the results that it receives: each counts once, and only if it answers its request.

A result may come twice, before it is asked for, from an earlier run, from a broken evaluator or as a dead letter.
"""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.coordinator.history import History
from services.coordinator.item_consistency import ItemConsistency
from services.coordinator.pending import PendingQueue, PendingRequest
from shared.broker import REASON_CHARACTERS, Broker, Delivery, identity_in, read_results
from shared.errors import UserError
from shared.events import DeadLetterReceived, Events, ResultIgnored
from shared.failure_policy import FAILURES, RETRIES
from shared.messages import EvaluationRequest, EvaluationResult, Failure, Measurement, Outcome, StopSearch

log = logging.getLogger(__name__)

EARLY_RESULTS = 1000
"""Measurements kept that were not asked for yet: those of an earlier run whose requests come later in this one."""


@dataclass
class Intake:
    """What a few deliveries amount to: outcomes to be stored, deliveries to be acknowledged then, reasons to end."""

    settled: list[tuple[PendingRequest, Outcome]] = field(default_factory=list)
    to_acknowledge: list[Delivery] = field(default_factory=list)
    problem: UserError | None = None
    stopped: bool = False


class ResultIntake:
    """Decides of each delivery what it means for the requests in `pending`. `began`: when this run did (Unix time)."""

    def __init__(self, broker: Broker, history: History, events: Events, pending: PendingQueue, began: float) -> None:
        self._broker, self._history, self._events = broker, history, events
        self._pending, self._began = pending, began
        self._items = ItemConsistency()
        self._early: OrderedDict[str, Measurement] = OrderedDict()

    def take_in(self, deliveries: Sequence[Delivery]) -> Intake:
        """What deliveries amount to, which leaves `pending` without the requests that are settled."""
        intake = Intake()
        for delivery in deliveries:
            self._take_in(delivery, intake)
        return intake

    def take_early(self, request: EvaluationRequest) -> Measurement | None:
        """A measurement that came before its request; None if none did that answers it."""
        early = self._early.pop(request.identity, None)
        if early is None:
            return None
        if (flaw := self._history.flaw(request, early)) is not None:
            self._ignore(early, flaw)
            return None
        return None if self._items.disagreement(request, early) else early

    def check_items(self, request: EvaluationRequest, measurement: Measurement) -> None:
        """Raise UserError if a stored measurement was made on other items than others."""
        if (problem := self._items.disagreement(request, measurement)) is not None:
            raise UserError(problem)

    def _take_in(self, delivery: Delivery, intake: Intake) -> None:
        messages = read_results(self._broker, delivery)
        if delivery.dead is not None:
            limit_reached = delivery.dead == "delivery_limit"
            self._events.publish(DeadLetterReceived("delivery_limit" if limit_reached else "unreadable"))
        if not messages:
            if (identity := identity_in(delivery)) is not None:
                self._events.publish(ResultIgnored("invalid"))
                self._retry_invalid(identity, delivery, "an answer that can't be read: see the log", intake)
            return
        accepted = [self._take_in_message(message, delivery, intake) for message in messages]
        if all(accepted):
            intake.to_acknowledge.append(delivery)

    def _take_in_message(self, message: EvaluationResult | StopSearch, delivery: Delivery, intake: Intake) -> bool:
        """What a message means; whether it is to be acknowledged, or else is rejected."""
        if isinstance(message, StopSearch):
            # One that was sent before this run began was meant for an earlier one.
            intake.stopped |= delivery.sent_at is None or delivery.sent_at >= self._began
            return True
        pending = self._pending.find(message.identity)
        if pending is not None and isinstance(message.outcome, Measurement):
            flaw = self._history.flaw(pending.request, message.outcome)
            if flaw is not None:
                reason = self._ignore(message.outcome, flaw)
                delivery.reject(reason)
                self._retry_invalid(message.identity, delivery, reason, intake)
                return False
        if pending is None:
            self._keep_early(message, intake)
            return True
        try:
            if self._settles(pending, delivery, message):
                self._pending.remove(message.identity)
                intake.settled.append((pending, message.outcome))
        except UserError as problem:
            intake.problem = intake.problem or problem
        return True

    def _ignore(self, measurement: Measurement, flaw: str) -> str:
        """Report a measurement that doesn't answer its request; the reason, with its evaluator."""
        reason = f"evaluator {measurement.worker} answered {flaw}"[:REASON_CHARACTERS]
        log.warning("result ignored: %s", reason)
        self._events.publish(ResultIgnored("invalid"))
        return reason

    def _retry_invalid(self, identity: str, delivery: Delivery, reason: str, intake: Intake) -> None:
        """The result was invalid: another evaluator's may not be, until the retries are used up."""
        pending = self._pending.find(identity)
        if pending is None or not self._pending.is_in_flight(identity) or self._retried(pending, delivery):
            return
        self._pending.remove(identity)
        intake.settled.append((pending, Failure(kind="invalid_result", reason=reason)))

    def _settles(self, pending: PendingRequest, delivery: Delivery, result: EvaluationResult) -> bool:
        """Whether it is the request's outcome.

        What says nothing about the network is not stored, and raises UserError: a bad request would be bad for every
        network, and networks may only be compared on the same items. But a result that this run has not asked for (yet)
        counts only if it is a good one: what was wrong in an earlier run may have been fixed since.
        """
        outcome, in_flight = result.outcome, self._pending.is_in_flight(pending.request.identity)
        if isinstance(outcome, Failure) and FAILURES[outcome.kind].of_any and result.together > 1:
            self._ask_alone(pending, outcome)
            return False
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

    def _ask_alone(self, pending: PendingRequest, failure: Failure) -> None:
        """Ask for a network again by itself, which was asked for with others; once, however often that is said."""
        if pending.alone or not self._pending.is_in_flight(pending.request.identity):
            self._events.publish(ResultIgnored("duplicate"))
            return
        log.warning("a network is asked for again, alone; together with others: %s", failure.reason)
        pending.alone = True
        self._pending.enqueue(pending)

    def _retried(self, pending: PendingRequest, delivery: Delivery) -> bool:
        """Whether a request is retried after a failure: then it is at the end of the pending queue again, to be asked
        for alone. What broke an evaluator at one network of a message may be told of its company, too, as a GPU fails
        at whatever comes after some errors; and would be again if they were together again."""
        if delivery.identity in pending.failures:  # a second copy; the retry's result is still to come
            self._events.publish(ResultIgnored("duplicate"))
            return True
        pending.failures.add(delivery.identity)
        if len(pending.failures) > RETRIES:
            return False
        pending.alone = True
        self._pending.enqueue(pending)
        return True

    def _keep_early(self, result: EvaluationResult, intake: Intake) -> None:
        """Keep a measurement that may be asked for later in this run; ignore anything else that isn't waited for."""
        known = any(pending.request.identity == result.identity for pending, _ in intake.settled)
        if known or isinstance(result.outcome, Failure) or self._history.knows(result.identity):
            self._events.publish(ResultIgnored("duplicate"))
            return
        self._early[result.identity] = result.outcome
        if len(self._early) > EARLY_RESULTS:
            self._early.popitem(last=False)
