"""How far a search has got, in the few words that it announces to the farm."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable

from shared.announcements import SearchAnnouncement, SearchState
from shared.events import (
    Event,
    Failed,
    GenerationDone,
    InFlightChanged,
    Measured,
    ResultsReceived,
    SearchFinished,
    SearchStopped,
    Stage,
    StageBegan,
)
from shared.messages import REQUEST_VERSION

RECENT = 64
"""Results from whose rate the time left is computed."""
STATES: dict[Stage, SearchState] = {"costs": "searching", "search": "searching", "report": "reporting"}


class SearchStatus:
    """The status of one search, from its events; `changed` is called when another stage begins. May be asked from any
    thread. `clock` is Unix time."""

    def __init__(self, search: str, supernet: str, clock: Callable[[], float] = time.time) -> None:
        self.changed: Callable[[], None] = lambda: None
        self._search, self._supernet, self._clock = search, supernet, clock
        self._lock = threading.Lock()
        self._state: SearchState = "searching"
        self._counting = False
        self._planned = self._measured = self._in_flight = 0
        self._failed: Counter[str] = Counter()
        self._hypervolume: float | None = None
        # When results came; before the first ones, when they were asked for.
        self._results: deque[float] = deque(maxlen=RECENT)

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._take_in(event)
        if isinstance(event, StageBegan):
            self.changed()

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

    def _take_in(self, event: Event) -> None:
        match event:
            case StageBegan():
                self._state, self._counting = STATES[event.stage], event.stage != "costs"
                self._planned = event.planned if self._counting else 0
                self._measured = 0
                self._failed.clear()
                self._results.clear()
            case Measured() if self._counting:
                self._measured += 1
            case Failed() if self._counting:
                self._failed[event.failure.kind] += 1
            case ResultsReceived():
                self._results.extend([self._clock()] * len(event.results))
            case InFlightChanged():
                self._in_flight = event.requests
                if event.requests and not self._results:
                    self._results.append(self._clock())
            case GenerationDone():
                self._hypervolume = event.row.hypervolume
            case SearchFinished():
                self._state = "finished"
            case SearchStopped():
                self._state = "stopped"

    def _eta(self) -> float | None:
        """Time until all are measured, if results continue to come as they lately did."""
        left = self._planned - self._measured - self._failed.total()
        if self._state in ("finished", "stopped") or len(self._results) < 2:
            return None
        return left * (self._clock() - self._results[0]) / (len(self._results) - 1)
