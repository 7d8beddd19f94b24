"""How far a search has got: in numbers for Prometheus, and in a few words for whoever asks for the farm's status."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Literal

from services.coordinator.batch import Observed
from shared.announcements import SearchAnnouncement, SearchState
from shared.generation import GenerationRow
from shared.messages import REQUEST_VERSION, EvaluationRequest, Failure, Outcome
from shared.telemetry.metrics import CoordinatorMetrics

RECENT = 64
"""Results from whose rate the time left is computed."""


class Progress:
    """The progress of one search; `metrics` are kept up to date, `changed` is called when it goes over to another
    state. May be asked from any thread. `clock` is Unix time."""

    def __init__(
        self, search: str, supernet: str, metrics: CoordinatorMetrics, clock: Callable[[], float] = time.time
    ) -> None:
        self.metrics = metrics
        self.changed: Callable[[], None] = lambda: None
        self._search, self._supernet, self._clock = search, supernet, clock
        self._lock = threading.Lock()
        self._state: SearchState = "searching"
        self._planned = self._asked = self._measured = self._in_flight = 0
        self._failed: Counter[str] = Counter()
        self._hypervolume: float | None = None
        self._results: deque[float] = deque(maxlen=RECENT)

    def begins(self, state: SearchState, planned: int) -> None:
        """The search goes over to another state, in which it plans to measure so many networks."""
        with self._lock:
            self._state, self._planned = state, planned
            self._asked = self._measured = 0
            self._failed.clear()
            self._results.clear()
        self.changed()
        if state == "searching":
            self.metrics.planned.set(planned)

    def ends(self, state: Literal["finished", "stopped"]) -> None:
        """The search has ended; its numbers stay."""
        with self._lock:
            self._state = state

    def asked(self, networks: int) -> None:
        """So many more networks were asked for."""
        with self._lock:
            self._asked += networks
        self._count_candidates()

    def counting(self, observed: Observed) -> Observed:
        """`observed`, which counts the outcomes in passing."""

        def count(request: EvaluationRequest, outcome: Outcome) -> None:
            with self._lock:
                if isinstance(outcome, Failure):
                    self._failed[outcome.kind] += 1
                else:
                    self._measured += 1
            self._count_candidates()
            observed(request, outcome)

        return count

    def in_flight(self, requests: int) -> None:
        """So many requests are in flight."""
        with self._lock:
            self._in_flight = requests
        self.metrics.in_flight.set(requests)

    def stored(self, results: int, seconds: float) -> None:
        """Results were checked and stored, which took so long for all of them together."""
        with self._lock:
            self._results.extend([self._clock()] * results)
        for _ in range(results):
            self.metrics.stored(seconds / results)

    def generation_done(self, row: GenerationRow) -> None:
        """A generation is complete."""
        with self._lock:
            self._hypervolume = row.hypervolume
        self.metrics.generation.set(row.generation + 1)
        self.metrics.hypervolume.set(row.hypervolume)
        self.metrics.predicted(row.kendall_tau, row.mean_absolute_error)

    def announcement(self) -> SearchAnnouncement:
        """What the search announces now."""
        with self._lock:
            return SearchAnnouncement(
                requests=REQUEST_VERSION,
                sent_at=self._clock(),
                name=self._search,
                supernet=self._supernet,
                state=self._state,
                planned=self._planned,
                measured=self._measured,
                failed=dict(self._failed),
                in_flight=self._in_flight,
                eta_seconds=self._eta(),
                hypervolume=self._hypervolume,
            )

    def _eta(self) -> float | None:
        """Time until all are measured, if results go on coming as they lately did."""
        left = self._planned - self._measured - self._failed.total()
        if self._state in ("finished", "stopped") or len(self._results) < 2:
            return None
        return left * (self._clock() - self._results[0]) / (len(self._results) - 1)

    def _count_candidates(self) -> None:
        with self._lock:
            if self._state != "searching":
                return
            measured, failed = self._measured, self._failed.total()
            asked = self._asked - measured - failed
        self.metrics.candidates(asked=asked, measured=measured, failed=failed)
