"""The hard limit of an evaluation. A thread can't be stopped, so requests that take too long are answered as timed out,
and the process ends."""

import logging
import threading
from collections.abc import Callable

from services.evaluator.lease import LeaseSlot, allowed, answer, said_of
from shared.broker import Broker
from shared.messages import EvaluationResult, Failure
from shared.telemetry.logs import bound, fields

log = logging.getLogger(__name__)


class Watchdog(threading.Thread):
    """Answers `timed_out` for the requests whose evaluation has taken `limit_seconds` each (`lease.allowed`), once;
    then calls `answered`.

    It waits while the broker can't be reached, as the worker does. Where the broker refuses the answer for good,
    `answered` is called all the same: the requests then go to another evaluator.
    """

    def __init__(
        self, broker: Broker, lease_slot: LeaseSlot, limit_seconds: float, answered: Callable[[], None]
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._broker, self._lease_slot, self._limit, self._answered = broker, lease_slot, limit_seconds, answered

    def run(self) -> None:
        lease = self._lease_slot.claim_expired(self._limit)
        requests, limit = lease.requests, allowed(lease, self._limit)
        whose = "" if len(requests) == 1 else f" for {len(requests)} networks together"
        failure = Failure(
            kind="timed_out", reason=f"not finished after {limit:g} s, the limit of this evaluator{whose}"
        )
        results = [
            EvaluationResult(identity=request.identity, search=request.search, outcome=failure, together=len(requests))
            for request in requests
        ]
        with bound(**said_of(requests), attempt=lease.delivery.attempt):
            log.error("evaluation timed out", extra=fields(limit_seconds=limit))
            try:
                answer(self._broker, lease, results, last=True)
            except Exception:
                log.exception("the evaluation's failure can't be published")
            finally:
                self._answered()
