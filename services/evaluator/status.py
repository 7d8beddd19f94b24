"""What an evaluator reports about itself: metrics, health, logs, and announcements to the farm."""

import logging
import threading
import time
from collections.abc import Callable

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
    """An evaluator for which an exception is the failure of one request, not of the process."""

    def __init__(self, evaluator: RequestEvaluator) -> None:
        self._evaluator = evaluator

    def evaluate(self, request: EvaluationRequest, progressed: ProgressCallback) -> EvaluationResult:
        """The evaluator's answer; an exception is logged with its traceback and answered as `crashed`."""
        try:
            return self._evaluator.evaluate(request, progressed)
        except Exception as error:  # a bug, which other requests may not run into
            log.exception("evaluation crashed")
            reason = f"{type(error).__name__}: {first_line(error)}"
            failure = Failure(kind="crashed", reason=reason)
            return EvaluationResult(identity=request.identity, search=request.search, outcome=failure)


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
        self._request: EvaluationRequest | None = None
        self._measured = self._failed = self._crashes = 0

    def received(self, delivery: Delivery, request: EvaluationRequest) -> None:
        self.hung.beat()
        self._metrics.request_received(None if delivery.sent_at is None else time.time() - delivery.sent_at)
        self._go("computing", request)

    def progressed(self) -> None:
        self.hung.beat()
        self._metrics.progressed()

    def evaluated(self, outcome: Measurement | Failure, seconds: float) -> None:
        self.hung.rest()
        self._metrics.answered(outcome, seconds)
        with self._lock:
            self._measured += isinstance(outcome, Measurement)
            self._failed += isinstance(outcome, Failure)
        self._crashes = self._crashes + 1 if isinstance(outcome, Failure) and FAILURES[outcome.kind].is_crash else 0
        log.info("evaluation finished", extra=fields(outcome=outcome.kind, seconds=seconds))

    def settled(self, pausing: bool) -> None:
        self._go("pausing" if pausing else "idle", None)
        if self._crashes >= MOST_CRASHES:
            self.broken()

    def resumed(self) -> None:
        self._go("idle", None)

    def drain(self) -> None:
        """No request is received after the one in flight."""
        with self._lock:
            self._draining = True
            request = self._request
        self._go("draining", request)

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
            request = self._request
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
                search=None if request is None else request.search,
                candidate=None if request is None else request.identity,
                measured=self._measured,
                failed=self._failed,
            )

    def _go(self, state: EvaluatorState, request: EvaluationRequest | None) -> None:
        with self._lock:
            self._state = "draining" if self._draining else state
            self._request, self._since = request, time.time()
            self._metrics.is_in(self._state)
        self.changed()
