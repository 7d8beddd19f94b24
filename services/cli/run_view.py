"""`nasfarm report` and `nasfarm status`: what a run's history says. Neither loads a model."""

from contextlib import closing
from pathlib import Path

from services.application.run_directory import RunDirectory
from services.application.run_status import fine_tuning_in_words, search_progress
from services.cli.console import console
from services.cli.preparation_display import PreparationDisplay
from services.cli.search_display import hypervolume_in_words
from services.coordinator.history import History
from services.coordinator.plan import plan_of
from services.coordinator.results import evaluated_so_far, front
from services.reporting.report_files import write_report
from services.reporting.tables.terminal import front_table
from shared.errors import UserError
from shared.events import Events
from shared.files import UnwritableError
from shared.settings import SearchSettings


def report(path: Path, output: Path) -> None:
    """Write a run's report again from its history, into a directory. Raises UserError where that can't be written."""
    run = RunDirectory(path)
    settings = run.settings()
    with closing(History.read(run.history)) as history, PreparationDisplay() as display:
        plan = plan_of(history, settings)
        try:
            with Events(display).step("Report", note="writing"):
                content = write_report(plan, history, front(evaluated_so_far(plan, history)), output)
        except UnwritableError as error:
            raise UserError(f"{error.what}; name another directory with --output") from error
    console.print(front_table(content))
    console.print(f"Report         {output / 'report.html'}")


def status(path: Path) -> None:
    """Show how far a run has got."""
    run = RunDirectory(path)
    settings = run.settings()
    console.print(f"Run            {settings.name}, {settings.model}")
    console.print(f"Super-network  {fine_tuning_in_words(run, settings.training.steps)}")
    if not run.history.is_file():
        console.print("Search         not begun")
        return
    with closing(History.read(run.history)) as history:
        _print_search(settings, history)
    done = (run.path / "report.html").is_file()
    console.print(f"Report         {run.path / 'report.html' if done else 'not written yet'}")


def _print_search(settings: SearchSettings, history: History) -> None:
    progress = search_progress(settings, history)
    if progress is None:
        console.print("Search         begun, the cost table is not measured yet")
        return
    console.print(
        f"Search         {progress.measured} of {progress.planned} networks measured, "
        f"{progress.asked - progress.measured} asked for or failed"
    )
    for row in progress.generations:
        console.print(f"Generation {row.generation:<4}{row.evaluations} networks, {hypervolume_in_words(row)}")
    console.print(f"Front          {progress.front} networks")
