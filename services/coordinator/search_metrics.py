"""A search's events as numbers for Prometheus."""

import time

from shared.events import (
    CandidatesChosen,
    DeadLetterReceived,
    Event,
    Failed,
    GenerationDone,
    InFlightChanged,
    Measured,
    RequestsResent,
    ResultIgnored,
    ResultsReceived,
    StageBegan,
)
from shared.telemetry.metrics import CoordinatorMetrics


class SearchMetrics:
    """Keeps the metrics of a coordinator up to date. Networks that the report measures are no candidates."""

    def __init__(self, metrics: CoordinatorMetrics) -> None:
        self._metrics = metrics
        self._searching = False
        self._asked = self._measured = self._failed = 0

    def __call__(self, event: Event) -> None:
        metrics = self._metrics
        match event:
            case StageBegan():
                self._searching = event.stage == "search"
                if self._searching:
                    metrics.planned.set(event.planned)
            case CandidatesChosen():
                self._asked += len(event.candidates)
                self._count()
            case Measured() if self._searching:
                self._measured += 1
                self._count()
            case Failed() if self._searching:
                self._failed += 1
                self._count()
            case ResultsReceived():
                seconds = (time.perf_counter() - event.began) / len(event.results)
                for _ in event.results:
                    metrics.stored(seconds)
            case GenerationDone():
                row = event.row
                metrics.generation.set(row.generation + 1)
                metrics.hypervolume.set(row.hypervolume)
                metrics.predicted(row.kendall_tau, row.mean_absolute_error)
            case InFlightChanged():
                metrics.in_flight.set(event.requests)
            case RequestsResent():
                metrics.resent.inc(event.requests)
            case ResultIgnored():
                (metrics.duplicates if event.reason == "duplicate" else metrics.invalid).inc()
            case DeadLetterReceived():
                metrics.dead_lettered(event.reason)

    def _count(self) -> None:
        waiting = self._asked - self._measured - self._failed
        self._metrics.candidates(asked=waiting, measured=self._measured, failed=self._failed)
