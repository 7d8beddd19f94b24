"""The hard limit of an evaluation: a thread can't be stopped, so what takes too long is answered for, and the process
ends."""

import logging
import threading
from collections.abc import Callable

from services.evaluator.lease import LeaseSlot, answer
from shared.broker import Broker
from shared.messages import EvaluationResult, Failure
from shared.telemetry.logs import bound, fields

log = logging.getLogger(__name__)


class Watchdog(threading.Thread):
    """Answers `timed_out` for the request that has been in work for `limit_seconds`, once; then calls `answered`.

    It waits for a broker that is away, as the worker does. Where the broker refuses the answer for good, `answered` is
    called all the same: the request then goes to another evaluator.
    """

    def __init__(self, broker: Broker, desk: LeaseSlot, limit_seconds: float, answered: Callable[[], None]) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._broker, self._desk, self._limit, self._answered = broker, desk, limit_seconds, answered

    def run(self) -> None:
        assignment = self._desk.claim_expired(self._limit)
        request, attempt = assignment.request, assignment.delivery.attempt
        reason = f"not finished after {self._limit:g} s, the limit of this evaluator"
        failure = Failure(kind="timed_out", reason=reason)
        result = EvaluationResult(identity=request.identity, search=request.search, outcome=failure)
        with bound(search=request.search, candidate=request.identity, attempt=attempt):
            log.error("evaluation timed out", extra=fields(limit_seconds=self._limit))
            try:
                answer(self._broker, assignment, result, last=True)
            except Exception:
                log.exception("the evaluation's failure can't be told")
            finally:
                self._answered()
