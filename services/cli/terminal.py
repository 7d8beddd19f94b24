"""How a search shows its progress: to a person, or as events where its output is a service's log."""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from statistics import median
from types import TracebackType
from typing import Self

from services.application.pipeline import Display
from services.application.run_directory import RunDirectory
from services.cli.console import console
from services.cli.progress_bars import Pace, Stage, stage
from services.coordinator.plan import SearchPlan
from services.coordinator.results import accuracy
from services.reporting.report_data import ReportContent
from services.reporting.tables.terminal import front_table
from services.reporting.wording import correlation, percentage
from shared.generation import GenerationRow
from shared.messages import CostTable, EvaluationRequest, Failure, Measurement
from shared.telemetry.logs import fields
from shared.text import one_line

log = logging.getLogger(__name__)

LOG_SECONDS = 10.0
"""The least time between two events that only say how many networks are measured."""


def display_of(plan: SearchPlan) -> AbstractContextManager[Display]:
    """The display of a service: for a person only where one looks on."""
    return TerminalDisplay(plan) if console.is_terminal else nullcontext(LogDisplay())


class TerminalDisplay:
    """Lines, and each stage with its progress."""

    def __init__(self, plan: SearchPlan) -> None:
        self._plan = plan
        self._shown = ExitStack()
        self._stage: Stage

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.close()

    def measures_costs(self) -> None:
        self._shown.enter_context(stage("Cost table", note="measuring what parts of a network cost"))

    def searches(self, total: int, tables: tuple[CostTable, ...]) -> None:
        self._shown.close()
        for table in tables:
            console.print(f"Cost table     {_costs_in_words(table)}")
        self._stage = self._shown.enter_context(stage("Search", total))

    def reports(self, total: int) -> None:
        self._shown.close()
        self._stage = self._shown.enter_context(stage("Report", total))

    def measured(self, request: EvaluationRequest, outcome: Measurement | Failure) -> None:
        self._stage.advance(_in_words(request, outcome, self._plan.settings.metrics))

    def generation_done(self, row: GenerationRow) -> None:
        quality = ""
        if row.predictor is not None:
            tau, of_size, at_equal = map(correlation, (row.kendall_tau, row.size_tau, row.partial_tau))
            quality = (
                f", {row.predictor} on the unseen batch: Kendall tau {tau} (size alone {of_size}, at equal size "
                f"{at_equal}), mean error {percentage(row.mean_absolute_error)} points "
                f"(size alone {percentage(row.size_error)})"
            )
        console.print(
            f"Generation {row.generation}: {row.evaluations} networks measured, "
            f"hypervolume {row.hypervolume:.4f}{quality}"
        )

    def finished(self, content: ReportContent, run: RunDirectory) -> None:
        self._shown.close()
        console.print(front_table(content))
        console.print(f"Report         {run.path / 'report.html'}")
        front = f"{run.path / 'front.json'}, {run.path / 'front.svg'}, {run.path / 'front'}/N*.json"
        console.print(f"Front          {front}")
        console.print(f"Super-network  {run.supernet}")
        console.print(f"History        {run.history}")


class LogDisplay:
    """Events. A search that goes on tells nothing of what was measured before, but in numbers."""

    def __init__(self) -> None:
        self._stage, self._total = "costs", 0
        self._counts: Counter[str] = Counter()
        self._told_at = 0.0
        self._pace = Pace(0)

    def measures_costs(self) -> None:
        log.info("asking what parts of a network cost")

    def searches(self, total: int, tables: tuple[CostTable, ...]) -> None:
        for table in tables:
            log.info("cost table measured", extra=fields(costs=_costs_in_words(table)))
        self._begin("search", total)

    def reports(self, total: int) -> None:
        self._tell()
        self._begin("report", total)

    def measured(self, request: EvaluationRequest, outcome: Measurement | Failure) -> None:
        self._counts["measured" if isinstance(outcome, Measurement) else "failed"] += 1
        self._pace.reach(self._counts.total())
        if isinstance(outcome, Failure):
            failed = fields(candidate=request.identity, kind=outcome.kind, reason=outcome.reason)
            log.warning("network failed", extra=failed)
        if time.monotonic() - self._told_at >= LOG_SECONDS:
            self._tell()

    def generation_done(self, row: GenerationRow) -> None:
        log.info("generation done", extra=fields(**row.model_dump()))

    def finished(self, content: ReportContent, run: RunDirectory) -> None:
        self._tell()
        log.info("report written", extra=fields(networks=len(content.front), report=run.path / "report.html"))

    def _begin(self, stage: str, total: int) -> None:
        self._stage, self._total = stage, total
        self._counts.clear()
        self._pace = Pace(total)
        self._told_at = time.monotonic()

    def _tell(self) -> None:
        self._told_at = time.monotonic()
        counts = {what: self._counts[what] for what in ("measured", "failed")}
        left = self._pace.seconds_left
        eta = {} if left is None else {"seconds_left": round(left)}
        log.info("networks measured", extra=fields(stage=self._stage, **counts, planned=self._total, **eta))


def _in_words(request: EvaluationRequest, outcome: Measurement | Failure, metrics: Sequence[str]) -> str:
    if isinstance(outcome, Failure):
        return f"failed: {one_line(outcome.reason)}"
    words = f"{request.architecture.depth} layers, {outcome.parameters / 1e6:.1f} M"
    if request.architecture.quantization != "none":
        words += f", {request.architecture.quantization}"
    if outcome.speed is not None:
        return f"{words}: {median(outcome.speed.decode_tokens_per_second):.1f} tokens/s"
    return f"{words}: {accuracy(outcome, metrics):.3f}"


def _costs_in_words(table: CostTable) -> str:
    load, whole = table.workload, max(table.prefill.mlp)
    name = "unquantised" if table.quantization == "none" else table.quantization
    return (
        f"{name}: {table.engine} {table.engine_version} on {table.device}, {table.dtype}, "
        f"batch {load.batch}; a whole layer takes "
        f"{(table.prefill.attention + table.prefill.mlp[whole]) * 1000:.2f} ms of the prefill of "
        f"{load.prompt_tokens} tokens, {(table.decode.attention + table.decode.mlp[whole]) * 1000:.2f} ms of a "
        "step of decoding"
    )
