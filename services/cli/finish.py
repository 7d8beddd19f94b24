"""`nasfarm finish`: a network of a run fine-tuned further by itself, with what that was worth."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from services.application.export.choice import choose
from services.application.export.searched_run import SearchedRun
from services.application.finish.options import FinishOptions
from services.application.finish.place import default_place, place_of
from services.cli.console import console
from services.cli.export import list_networks, say
from services.cli.preparation_display import PreparationDisplay
from services.cli.shell_words import shell_word
from services.reporting import wording
from services.reporting.report_data import Comparison
from services.trainer.distributed.environment import started_together
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events
from shared.files import user_path
from shared.settings import task_title

if TYPE_CHECKING:
    from services.application.finish.record import FinishedResults, NetworkResult


@dataclass(frozen=True)
class Wanted:
    """Which network: by its name, or by what it may cost at most."""

    name: str | None
    at_most: tuple[str, ...]


def finish(path: Path, wanted: Wanted, options: FinishOptions, output: Path | None) -> None:
    """Finish the network of a run that is wanted; if none is, list those there are."""
    if started_together():
        raise UserError("finish: trains in one process; start it by itself, without torchrun")
    run = SearchedRun.read(path)
    chosen = choose(run, wanted.name, None, wanted.at_most)
    if chosen is None:
        given = {"--output": output, "--supernet": options.supernet}
        given |= {f"--{name.replace('_', '-')}": value for name, value in options.training.items()}
        whole = run.report.dense
        smaller = (row.name for row in run.report.front if row.architecture.quantized("none") != whole.architecture)
        list_networks(path, run, "finish", given, example=next(smaller, None))
        return
    if chosen.architecture.quantized("none") == run.report.dense.architecture:
        raise UserError(f"{chosen.name}: is the whole super-network, which teaches the others; ask for a smaller one")
    if chosen.why:
        say("Chosen", f"{chosen.name}, {chosen.why}")
    place = default_place(run.name, chosen.name) if output is None else user_path(str(output))
    target = place_of(place, run.directory)

    # What holds a model is loaded only now.
    from services.application.finish.finish_network import finish_network
    from services.application.quiet_libraries import quiet_libraries

    quiet_libraries()
    with PreparationDisplay() as display:
        finished = finish_network(run, chosen, options, target, Environment.read(), Events(display))
    record = finished.record
    if finished.already:
        say("Finished", f"{place} is there already: finished in {record.training.steps:,} steps")
    results = record.results
    show_results(chosen.name, results)
    say("Result", verdict(chosen.name, results))
    say("Report items", _use(results, finished.already, finished.uncounted))
    where = shell_word(place)
    say("Finished", f"{place}, a Hugging Face checkpoint; nasfarm export {where} --to hf, vllm or gguf takes it along")


def verdict(name: str, results: "FinishedResults") -> str:
    """Whether it got better, in one line."""
    low, high = results.versus_before.interval
    found = "got better" if low > 0 else "got worse" if high < 0 else "can't be told from what it was"
    return (
        f"{name} {found}: {_points(results.versus_before)} on {results.items:,} report items; "
        f"{_points(results.versus_dense, interval_words='')} against dense"
    )


def _use(results: "FinishedResults", already: bool, uncounted: str | None) -> str:
    used = f"used again: {results.used_before} networks had been measured on them before this one"
    if already:
        return used
    if uncounted is None:
        return f"{used}, which the run's report counts when it is written again"
    return f"{used}, which the run's report can't count ({uncounted})"


def show_results(name: str, results: "FinishedResults") -> None:
    """The dense network, and the network before and after, task by task."""
    table = Table(box=SIMPLE_HEAD, show_edge=False)
    tasks, several = list(results.finished.by_task), len(results.finished.by_task) > 1
    for title in ("Task", "Network") if several else ("Network",):
        table.add_column(title, no_wrap=True)
    for title in ("Report %", "95 %", "Against dense", "95 %"):
        table.add_column(title, justify="right", no_wrap=True)
    rows: dict[str, NetworkResult] = {
        "dense": results.dense,
        f"{name}, as it was": results.before,
        f"{name}, finished": results.finished,
    }
    for task in tasks:
        for label, result in rows.items():
            first = (Text(task_title(task)),) if several else ()
            row = result.by_task[task]
            table.add_row(*first, Text(label), *_cells(row.accuracy, row.interval, row.versus_dense))
        table.add_section()
    if several:
        for label, result in rows.items():
            if result.macro is not None:
                row = result.macro
                table.add_row("mean", Text(label), *_cells(row.accuracy, row.interval, row.versus_dense))
    console.print(table)


def _cells(accuracy: float, interval: tuple[float, float], against: Comparison | None) -> tuple[str, ...]:
    shown = (wording.percentage(accuracy), wording.interval(interval))
    if against is None:
        return (*shown, "", "")
    return (*shown, wording.points(against.difference), wording.points_interval(against.interval))


def _points(comparison: Comparison, interval_words: str = "95 %: ") -> str:
    shown = wording.points_interval(comparison.interval)
    return f"{wording.points(comparison.difference)} points ({interval_words}{shown})"
