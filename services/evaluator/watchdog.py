"""The hard limit of an evaluation. A thread can't be stopped, so a request that takes too long is answered as timed
out, and the process ends."""

import logging
import threading
from collections.abc import Callable

from services.evaluator.lease import LeaseSlot, answer
from shared.broker import Broker
from shared.messages import EvaluationResult, Failure
from shared.telemetry.logs import bound, fields

log = logging.getLogger(__name__)


class Watchdog(threading.Thread):
    """Answers `timed_out` for the request whose evaluation has taken `limit_seconds`, once; then calls `answered`.

    It waits while the broker can't be reached, as the worker does. Where the broker refuses the answer for good,
    `answered` is called all the same: the request then goes to another evaluator.
    """

    def __init__(
        self, broker: Broker, lease_slot: LeaseSlot, limit_seconds: float, answered: Callable[[], None]
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._broker, self._lease_slot, self._limit, self._answered = broker, lease_slot, limit_seconds, answered

    def run(self) -> None:
        lease = self._lease_slot.claim_expired(self._limit)
        request, attempt = lease.request, lease.delivery.attempt
        reason = f"not finished after {self._limit:g} s, the limit of this evaluator"
        failure = Failure(kind="timed_out", reason=reason)
        result = EvaluationResult(identity=request.identity, search=request.search, outcome=failure)
        with bound(search=request.search, candidate=request.identity, attempt=attempt):
            log.error("evaluation timed out", extra=fields(limit_seconds=self._limit))
            try:
                answer(self._broker, lease, result, last=True)
            except Exception:
                log.exception("the evaluation's failure can't be published")
            finally:
                self._answered()
