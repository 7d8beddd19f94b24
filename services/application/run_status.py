"""How far a run has got: its fine-tuning, its search, its report. Loads no model."""

from contextlib import closing
from dataclasses import dataclass

from services.application.run_directory import RunDirectory
from services.application.supernet_store import workspace_of
from services.coordinator.budget import networks_to_measure
from services.coordinator.history import History
from services.coordinator.plan import plan_of
from services.coordinator.results import cost_tables, evaluated_so_far, front
from shared.errors import UserError
from shared.generation import GenerationRow
from shared.json_text import parse_json
from shared.manifest import MANIFEST
from shared.settings import SearchSettings


@dataclass(frozen=True)
class SearchProgress:
    """Networks of a search that has begun: how many there will be, were asked for, and are measured; its finished
    generations, and how many are on the front."""

    planned: int
    asked: int
    measured: int
    generations: tuple[GenerationRow, ...]
    front: int


def search_progress(settings: SearchSettings, history: History) -> SearchProgress | None:
    """None where the cost table is still to be measured, before any network."""
    plan = plan_of(history, settings)
    try:
        cost_tables(plan, history)
    except UserError:
        return None
    evaluated = evaluated_so_far(plan, history)
    return SearchProgress(
        planned=networks_to_measure(settings.search, plan.space, history.asked()),
        asked=history.asked(),
        measured=len(evaluated),
        generations=tuple(history.generations()),
        front=len(front(evaluated)),
    )


def state_in_words(run: RunDirectory) -> str:
    """The state of a run in a few words. Raises UserError where its files can't be read."""
    if (run.path / "report.html").is_file():
        return "report written"
    settings = run.settings()
    if not run.history.is_file():
        return f"fine-tuning: {fine_tuning_in_words(run, settings.training.steps)}"
    with closing(History.read(run.history)) as history:
        asked = history.asked()
        planned = networks_to_measure(settings.search, plan_of(history, settings).space, asked)
        return f"searching: {asked} of {planned} networks asked for"


def fine_tuning_in_words(run: RunDirectory, steps: int) -> str:
    """How far the fine-tuning of a run's super-network has got."""
    try:
        if (run.supernet / MANIFEST).is_file():
            return f"finished, {run.supernet.resolve() if run.supernet.is_symlink() else run.supernet}"
        workspace = workspace_of(run.supernet.resolve()) if run.supernet.is_symlink() else run.path
        log = workspace / "training.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.is_file() else []
    except OSError as error:  # it may be another user's
        return f"can't be read ({error.strerror})"
    whole = [line for line in lines if line.endswith("\n")]  # the last one may be being written
    if not whole:
        return "removed" if run.history.is_file() else "not begun"
    try:
        return f"{parse_json(whole[-1])['step'] + 1} of {steps} steps"
    except (ValueError, LookupError, TypeError):
        return f"{log} is damaged; remove {workspace} to begin again"
