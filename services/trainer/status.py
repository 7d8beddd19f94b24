"""What a fine-tuning reports about itself as a service: metrics, health, logs."""

import logging
import time
from collections.abc import Callable

from services.trainer.fine_tuning import StepReport
from shared.failure_policy import NO_PROGRESS_SECONDS
from shared.telemetry.logs import fields
from shared.telemetry.metrics import TrainerMetrics
from shared.telemetry.server import Pulse

log = logging.getLogger(__name__)

LOG_SECONDS = 60.0
"""The least time between two events that only say how far it is."""


class TrainerStatus:
    """Is told of every step. `hung` is a check for `/healthz`: it fails where none ends for NO_PROGRESS_SECONDS."""

    def __init__(self, processes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.metrics = TrainerMetrics(processes)
        self.hung = Pulse("fine-tuning", NO_PROGRESS_SECONDS, clock)
        self._clock = clock
        self._began = self._told_at = clock()
        self._first: int | None = None
        self._tokens = 0

    def began(self) -> None:
        """The fine-tuning begins: what comes before its first step counts as well."""
        self._began = self._told_at = self._clock()
        self.hung.beat()

    def stepped(self, report: StepReport) -> None:
        """A step has ended."""
        now = self._clock()
        self._first = report.step - 1 if self._first is None else self._first
        self._tokens += report.tokens
        seconds, done = now - self._began, report.step - self._first
        left = seconds / done * (report.steps - report.step)
        losses = {"full": report.full_loss, "subnet": report.subnet_loss}
        known = {kind: loss for kind, loss in losses.items() if loss is not None}
        self.metrics.stepped(report.step, report.steps, known, report.tokens, report.memory, left)
        self.hung.beat()
        if now - self._told_at >= LOG_SECONDS or report.step == report.steps:
            self._told_at = now
            speed = {"tokens_per_second": self._tokens / seconds, "seconds_left": round(left)} if seconds else {}
            log.info(
                "fine-tuning advanced",
                extra=fields(
                    step=report.step,
                    steps=report.steps,
                    **{f"{kind}_loss": loss for kind, loss in known.items()},
                    **speed,
                    memory_bytes=report.memory,
                ),
            )

    def progressed(self) -> None:
        """Something is done that is no step: one more layer to drop is found, or a layer's projections are refitted."""
        self.hung.beat()

    def ended(self) -> None:
        """No more steps are expected."""
        self.hung.rest()
