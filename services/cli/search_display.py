"""A search as its user sees it: lines, and each stage with its progress."""

from collections.abc import Mapping
from statistics import median

from services.application.search_events import FarmSearchReady, NoEvaluatorPresent, ReportWritten
from services.cli.console import console
from services.cli.cost_table import cost_table_in_words
from services.cli.display import Display
from services.cli.progress_bars import ProgressView, stage
from services.cli.search_summary import print_space
from services.coordinator.results import accuracy
from services.reporting.tables.terminal import front_table
from services.reporting.wording import correlation, percentage, proceeding
from shared.events import CostsMeasured, Event, Failed, GenerationDone, Measured, SearchStopped, StageBegan
from shared.generation import GenerationRow
from shared.messages import EvaluationRequest, Measurement
from shared.text import one_line


class SearchDisplay(Display):
    """Subscriber that shows a search; `metrics` says what is counted of each task, by its name."""

    def __init__(self, metrics: Mapping[str, str]) -> None:
        super().__init__()
        self._metrics = metrics
        self._stage: ProgressView
        self._counting = False

    def __call__(self, event: Event) -> None:
        match event:
            case StageBegan():
                self._show(event)
            case CostsMeasured():
                self.shown.close()
                for table in event.tables:
                    console.print(f"Cost table     {cost_table_in_words(table)}")
            case Measured() if self._counting:
                self._stage.advance(_in_words(event.request, event.measurement, self._metrics))
            case Failed() if self._counting:
                self._stage.advance(f"failed: {one_line(event.failure.reason)}")
            case GenerationDone():
                console.print(_generation_in_words(event.row))
            case FarmSearchReady():
                _print_farm(event)
            case NoEvaluatorPresent():
                console.print(_waiting(event))
            case ReportWritten():
                self.shown.close()
                _print_report(event)
            case SearchStopped():
                self.shown.close()

    def _show(self, event: StageBegan) -> None:
        self.shown.close()
        self._counting = event.stage != "costs"
        if self._counting:
            name = "Search" if event.stage == "search" else "Report"
            self._stage = self.shown.enter_context(stage(name, event.planned))
        else:
            self.shown.enter_context(stage("Cost table", note="measuring what parts of a network cost"))


def _in_words(request: EvaluationRequest, measurement: Measurement, metrics: Mapping[str, str]) -> str:
    words = f"{request.architecture.depth} layers, {measurement.parameters / 1e6:.1f} M"
    if request.architecture.quantization != "none":
        words += f", {request.architecture.quantization}"
    if measurement.speed is not None:
        return f"{words}: {median(measurement.speed.decode_tokens_per_second):.1f} tokens/s"
    return f"{words}: {accuracy(measurement, [metrics[task.task] for task in request.spec.tasks]):.3f}"


def _generation_in_words(row: GenerationRow) -> str:
    quality = ""
    if row.predictor is not None:
        tau, of_size, at_equal = map(correlation, (row.kendall_tau, row.size_tau, row.partial_tau))
        quality = (
            f", {row.predictor} on the unseen batch: Kendall tau {tau} (size alone {of_size}, at equal size "
            f"{at_equal}), mean error {percentage(row.mean_absolute_error)} points "
            f"(size alone {percentage(row.size_error)})"
        )
    if row.on_drawn is not None:
        drawn = row.on_drawn
        quality += (
            f"; on {drawn.networks} drawn at random: at equal size {correlation(drawn.partial_tau)}, mean error "
            f"{percentage(drawn.mean_absolute_error)} points (size alone {percentage(drawn.size_error)})"
        )
    return f"Generation {row.generation}: {row.evaluations} networks measured, {hypervolume_in_words(row)}{quality}"


def hypervolume_in_words(row: GenerationRow) -> str:
    """The hypervolume after a generation, and of which accuracies it is."""
    return f"hypervolume {row.hypervolume:.4f}{' (estimated)' if row.estimated else ''}"


def _print_farm(event: FarmSearchReady) -> None:
    """What is going to be searched, and where."""
    plan, search = event.plan, event.plan.settings.search
    console.print(f"Model          {plan.base.location}")
    print_space(plan.space, plan.dtype)
    console.print(f"Search         {search.strategy}, {event.networks} networks {proceeding(search)}")
    console.print(f"Farm           {event.broker}, evaluators of super-network {plan.supernet.digest}")
    console.print(f"Telemetry      port {event.telemetry_port}: /metrics, /healthz, /readyz")


def _waiting(event: NoEvaluatorPresent) -> str:
    if event.of_another_release:
        return (
            f"Waiting        the evaluators of super-network {event.supernet} ({event.of_another_release}) are of "
            "another release; start one of this one"
        )
    return f"Waiting        no evaluator of super-network {event.supernet} is there; start one"


def _print_report(event: ReportWritten) -> None:
    run = event.run
    console.print(front_table(event.content))
    console.print(f"Report         {run.path / 'report.html'}")
    front = f"{run.path / 'front.json'}, {run.path / 'front.svg'}, {run.path / 'front'}/N*.json"
    console.print(f"Front          {front}")
    console.print(f"Super-network  {run.supernet}")
    console.print(f"History        {run.history}")
