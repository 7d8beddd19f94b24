"""`nasfarm search` on one machine: trainer, coordinator and evaluator in one process."""

from contextlib import closing
from pathlib import Path

from services.application.embedded_farm import embedded_farm
from services.application.estimate import estimate, whole_work, work_left
from services.application.example import example_search_file
from services.application.pipeline import open_search, search_to_the_end
from services.application.prepared_search import PreparedSearch, check, check_tasks, fine_tune, space_before_ordering
from services.application.run_directory import RunDirectory
from services.application.supernet_store import Supernet, SupernetStore
from services.cli.quiet import quiet_libraries
from services.cli.search_summary import print_cost, print_space
from services.cli.terminal import TerminalDisplay
from services.coordinator.dispatch import Dispatcher
from services.coordinator.evaluators import EmbeddedEvaluator
from services.coordinator.history import History
from services.coordinator.plan import SearchPlan
from services.evaluator.evaluator import Evaluator
from services.evaluator.preparation import PreparedTask
from services.evaluator.speed import parameter_tokens_per_second
from shared.broker import requests_queue
from shared.environment import Environment
from shared.messages import Dtype
from shared.settings import ItemsPart, SearchSettings, read_search_file
from shared.supernet.device import preferred_dtype
from shared.telemetry.metrics import CoordinatorMetrics


def search(search_file: Path | None, runs: Path, store: SupernetStore) -> None:
    """The main job: from a search file to a report."""
    quiet_libraries()
    environment = Environment.read()
    settings = read_search_file(example_search_file(environment) if search_file is None else search_file)
    run = RunDirectory(runs / settings.name)
    with run.claimed():
        checked = check(settings, run, store, environment)
        evaluator = Evaluator(environment)
        tasks = check_tasks(evaluator, checked)
        opened = None if checked.supernet is None else _open(checked, checked.supernet, run)
        run.record(settings)  # only now: a run that belongs to another search stays as it is
        run.link(checked.place)
        _announce(checked, tasks, opened)
        plan, history = opened or _open(checked, fine_tune(checked), run)
        with closing(history):
            history.note("origins", checked.origins | {task.name: task.origin for task in tasks["search"]})
            requests = requests_queue(plan.supernet.digest)
            with embedded_farm(evaluator, requests) as (broker, check_evaluator), TerminalDisplay(plan) as display:
                evaluators = EmbeddedEvaluator(check_evaluator)
                farm = Dispatcher(
                    settings.name, plan.supernet.digest, broker, history, CoordinatorMetrics(broker), evaluators
                )
                search_to_the_end(plan, history, farm, run, display)


def _open(checked: PreparedSearch, supernet: Supernet, run: RunDirectory) -> tuple[SearchPlan, History]:
    return open_search(checked.settings, run, supernet, checked.base_reference, preferred_dtype())


def _announce(
    checked: PreparedSearch, tasks: dict[ItemsPart, list[PreparedTask]], opened: tuple[SearchPlan, History] | None
) -> None:
    rate = parameter_tokens_per_second(checked.base, preferred_dtype())
    tokens = (sum(task.tokens for task in tasks["search"]), sum(task.tokens for task in tasks["report"]))
    space = space_before_ordering(checked)
    print_space(space, opened[0].dtype if opened else _dtype(checked.settings))
    work = work_left(*opened) if opened else whole_work(checked.settings)
    print_cost(checked.settings, estimate(checked.settings, space, rate, *tokens, work), checked.supernet is None)


def _dtype(settings: SearchSettings) -> Dtype:
    """What a search that begins now computes in."""
    return preferred_dtype() if settings.dtype == "auto" else settings.dtype
