"""What an evaluator reports about itself: metrics, health, logs, and announcements to the farm."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from services.evaluator.progress_callback import ProgressCallback, ignore_progress
from services.evaluator.worker import RequestEvaluator, worker_name
from shared.announcements import EvaluatorAnnouncement
from shared.broker import Broker, Delivery
from shared.errors import first_line
from shared.failure_policy import FAILURES, MOST_CRASHES, NO_PROGRESS_SECONDS
from shared.messages import REQUEST_VERSION, EvaluationRequest, EvaluationResult, Failure, Measurement
from shared.telemetry.logs import fields
from shared.telemetry.metrics import EvaluatorMetrics, EvaluatorState
from shared.telemetry.server import Pulse

log = logging.getLogger(__name__)


class CrashGuard:
    """An evaluator for which an exception is the failure of one request, not of the process, nor of the requests that
    came with it."""

    def __init__(self, evaluator: RequestEvaluator) -> None:
        self._evaluator = evaluator

    def evaluate_together(
        self, requests: Sequence[EvaluationRequest], progressed: ProgressCallback
    ) -> list[EvaluationResult]:
        """The evaluator's answers; an exception is logged with its traceback and answered as `crashed`, by the request
        that raises it alone."""
        try:
            return self._evaluator.evaluate_together(requests, progressed)
        except Exception as error:  # a bug, which other requests may not run into
            log.exception("evaluation crashed")
            reason = f"{type(error).__name__}: {first_line(error)}"
        if len(requests) > 1:
            return [result for each in requests for result in self.evaluate_together([each], progressed)]
        failure = Failure(kind="crashed", reason=reason)
        return [EvaluationResult(identity=each.identity, search=each.search, outcome=failure) for each in requests]


class EvaluatorStatus:
    """The observer of a service's worker. May be asked from any thread.

    `hung` is a check for `/healthz`: it fails where an evaluation makes no progress for NO_PROGRESS_SECONDS. `changed`
    is called whenever `announcement` says another state, `broken` when the last MOST_CRASHES evaluations crashed.
    """

    def __init__(self, broker: Broker, metrics: EvaluatorMetrics, supernet: str, device: str) -> None:
        self.hung = Pulse("evaluation", NO_PROGRESS_SECONDS)
        self.changed: Callable[[], None] = ignore_progress
        self.broken: Callable[[], None] = ignore_progress
        self._broker, self._metrics, self._supernet, self._device = broker, metrics, supernet, device
        self._reconnects = broker.counters.reconnects
        self._lock = threading.Lock()
        self._state: EvaluatorState = "idle"
        self._since = time.time()
        self._draining = self._stopped = False
        self._requests: tuple[EvaluationRequest, ...] = ()
        self._measured = self._failed = self._crashes = 0

    def received(self, delivery: Delivery, requests: Sequence[EvaluationRequest]) -> None:
        self.hung.beat()
        self._metrics.message_received(None if delivery.sent_at is None else time.time() - delivery.sent_at)
        self._go("computing", tuple(requests))

    def progressed(self) -> None:
        self.hung.beat()
        self._metrics.progressed()

    def evaluated(self, results: Sequence[EvaluationResult], seconds: float) -> None:
        self.hung.rest()
        share = seconds / len(results)
        for result in results:
            outcome = result.outcome
            self._metrics.answered(outcome, share)
            with self._lock:
                self._measured += isinstance(outcome, Measurement)
                self._failed += isinstance(outcome, Failure)
            crashed = isinstance(outcome, Failure) and FAILURES[outcome.kind].is_crash
            self._crashes = self._crashes + 1 if crashed else 0
            finished = fields(candidate=result.identity, outcome=outcome.kind, seconds=share)
            log.info("evaluation finished", extra=finished)

    def settled(self, pausing: bool) -> None:
        self._go("pausing" if pausing else "idle", ())
        if self._crashes >= MOST_CRASHES:
            self.broken()

    def resumed(self) -> None:
        self._go("idle", ())

    def drain(self) -> None:
        """No message is received after the one in flight."""
        with self._lock:
            self._draining = True
            requests = self._requests
        self._go("draining", requests)

    def stop(self) -> None:
        """No request is in flight any more, nor will be."""
        with self._lock:
            self._stopped = True

    def refusal(self) -> str | None:
        """Why no requests are received, if that is so: a check for `/readyz`."""
        return "told to stop" if self._draining else None

    def announcement(self) -> EvaluatorAnnouncement:
        """The state, to be announced to the farm."""
        reconnects = self._broker.counters.reconnects
        with self._lock:
            requests = self._requests
            if self._state == "idle" and reconnects != self._reconnects:
                self._since = time.time()  # nothing could come before, so it says nothing about the queue
            self._reconnects = reconnects
            return EvaluatorAnnouncement(
                requests=REQUEST_VERSION,
                sent_at=time.time(),
                name=worker_name(),
                supernet=self._supernet,
                device=self._device,
                state="stopped" if self._stopped else self._state,
                since=self._since,
                search=requests[0].search if requests else None,
                candidates=tuple(request.identity for request in requests),
                measured=self._measured,
                failed=self._failed,
            )

    def _go(self, state: EvaluatorState, requests: tuple[EvaluationRequest, ...]) -> None:
        with self._lock:
            self._state = "draining" if self._draining else state
            self._requests, self._since = requests, time.time()
            self._metrics.is_in(self._state)
        self.changed()
