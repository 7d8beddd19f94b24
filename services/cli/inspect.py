"""`nasfarm report` and `nasfarm status`: what a run's history says. Neither loads a model."""

from contextlib import closing
from pathlib import Path

from services.application.run_directory import RunDirectory
from services.application.supernet_store import workspace_of
from services.cli.console import console
from services.cli.progress_bars import stage
from services.coordinator.history import History
from services.coordinator.plan import plan_of
from services.coordinator.results import cost_tables, evaluated_so_far, front
from services.reporting.report_files import write_report
from services.reporting.tables.terminal import front_table
from shared.errors import UserError
from shared.files import UnwritableError
from shared.json_text import parse_json
from shared.manifest import MANIFEST
from shared.settings import SearchSettings


def report(path: Path, output: Path) -> None:
    """Write a run's report again from its history, into a directory. Raises UserError where that can't be written."""
    run = RunDirectory(path)
    settings = run.settings()
    with closing(History.read(run.history)) as history:
        plan = plan_of(history, settings)
        try:
            with stage("Report", note="writing"):
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
    console.print(f"Super-network  {fine_tuning_of(run, settings.training.steps)}")
    if not run.history.is_file():
        console.print("Search         not begun")
        return
    with closing(History.read(run.history)) as history:
        _search_status(settings, history)
    done = (run.path / "report.html").is_file()
    console.print(f"Report         {run.path / 'report.html' if done else 'not written yet'}")


def _search_status(settings: SearchSettings, history: History) -> None:
    plan = plan_of(history, settings)
    try:
        cost_tables(plan, history)
    except UserError:
        console.print("Search         begun, the cost table is not measured yet")
        return
    candidates, evaluated = history.candidates(), evaluated_so_far(plan, history)
    console.print(
        f"Search         {len(evaluated)} of {settings.search.evaluations} networks measured, "
        f"{len(candidates) - len(evaluated)} asked for or failed"
    )
    for row in history.generations():
        console.print(f"Generation {row.generation:<4}{row.evaluations} networks, hypervolume {row.hypervolume:.4f}")
    console.print(f"Front          {len(front(evaluated))} networks")


def fine_tuning_of(run: RunDirectory, steps: int) -> str:
    """How far the fine-tuning of a run's super-network has got."""
    try:
        if (run.supernet / MANIFEST).is_file():
            return f"finished, {run.supernet.resolve() if run.supernet.is_symlink() else run.supernet}"
        workspace = workspace_of(run.supernet.resolve()) if run.supernet.is_symlink() else run.path
        log = workspace / "training.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.is_file() else []
    except OSError as error:  # it may be somebody else's
        return f"can't be read ({error.strerror})"
    whole = [line for line in lines if line.endswith("\n")]  # the last one may be being written
    if not whole:
        return "removed" if run.history.is_file() else "not begun"
    try:
        return f"{parse_json(whole[-1])['step'] + 1} of {steps} steps"
    except (ValueError, LookupError, TypeError):
        return f"{log} is damaged; remove {workspace} to begin anew"
