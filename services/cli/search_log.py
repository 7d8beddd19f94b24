"""A search as a service's log has it: structured events, few enough to be read."""

import logging
import time
from collections import Counter

from services.application.search_events import FarmSearchReady, NoEvaluatorPresent, ReportWritten
from services.cli.cost_table import cost_table_in_words
from services.cli.progress_bars import Pace
from shared.events import CostsMeasured, Event, Failed, GenerationDone, Measured, StageBegan
from shared.telemetry.logs import fields

log = logging.getLogger(__name__)

LOG_SECONDS = 10.0
"""The least time between two events that only say how many networks are measured."""


class SearchLog:
    """Subscriber that logs. Of what a resumed search has measured before there are only numbers."""

    def __init__(self) -> None:
        self._stage, self._total = "costs", 0
        self._counts: Counter[str] = Counter()
        self._told_at = 0.0
        self._pace = Pace(0)

    def __call__(self, event: Event) -> None:
        match event:
            case FarmSearchReady():
                _log_ready(event)
            case NoEvaluatorPresent():
                others = event.of_another_release
                log.warning("no evaluator is there", extra=fields(supernet=event.supernet, of_another_release=others))
            case StageBegan():
                self._begin(event)
            case CostsMeasured():
                for table in event.tables:
                    log.info("cost table measured", extra=fields(costs=cost_table_in_words(table)))
            case Measured() if self._stage != "costs":
                self._count("measured")
            case Failed() if self._stage != "costs":
                failure = event.failure
                failed = fields(candidate=event.request.identity, kind=failure.kind, reason=failure.reason)
                log.warning("network failed", extra=failed)
                self._count("failed")
            case GenerationDone():
                log.info("generation done", extra=fields(**event.row.model_dump()))
            case ReportWritten():
                self._tell()
                written = fields(networks=len(event.content.front), report=event.run.path / "report.html")
                log.info("report written", extra=written)

    def _begin(self, event: StageBegan) -> None:
        if event.stage == "costs":
            log.info("asking what parts of a network cost")
        elif event.stage == "report":
            self._tell()
        self._stage, self._total = event.stage, event.planned
        self._counts.clear()
        self._pace = Pace(event.planned)
        self._told_at = time.monotonic()

    def _count(self, what: str) -> None:
        self._counts[what] += 1
        self._pace.reach(self._counts.total())
        if time.monotonic() - self._told_at >= LOG_SECONDS:
            self._tell()

    def _tell(self) -> None:
        self._told_at = time.monotonic()
        counts = {what: self._counts[what] for what in ("measured", "failed")}
        left = self._pace.seconds_left
        eta = {} if left is None else {"seconds_left": round(left)}
        log.info("networks measured", extra=fields(stage=self._stage, **counts, planned=self._total, **eta))


def _log_ready(event: FarmSearchReady) -> None:
    plan = event.plan
    log.info(
        "search ready",
        extra=fields(
            broker=event.broker,
            supernet=plan.supernet.digest,
            base=plan.base.location,
            dtype=plan.dtype,
            networks=plan.space.networks,
            evaluations=event.networks,
            telemetry_port=event.telemetry_port,
        ),
    )
