"""A search on one machine: trainer, coordinator and evaluator in one process."""

from contextlib import closing

from services.application.embedded_farm import embedded_farm
from services.application.estimate import estimate, whole_work, work_left
from services.application.pipeline import open_search, search_dtype, search_to_report
from services.application.prepared_search import PreparedSearch, check_tasks, prepare_search
from services.application.room import check_room, say_needs
from services.application.run_directory import RunDirectory
from services.application.search_events import CostEstimated, SpaceDescribed
from services.application.supernet_store import Supernet, SupernetStore
from services.application.supernet_training import fine_tune_here
from services.coordinator.budget import networks_to_measure
from services.coordinator.evaluators import EmbeddedEvaluator
from services.coordinator.history import History
from services.coordinator.plan import SearchPlan
from services.evaluator.evaluator import Evaluator
from services.evaluator.preparation import PreparedTask
from services.evaluator.speed import parameter_tokens_per_second
from shared.broker import requests_queue
from shared.environment import Environment
from shared.events import Events
from shared.settings import ItemsPart, SearchSettings
from shared.supernet.device import preferred_dtype


def search_on_this_machine(
    settings: SearchSettings, run: RunDirectory, store: SupernetStore, environment: Environment, events: Events
) -> None:
    """From the settings to the report, from where the run stands.

    Raises UserError for what only its user can change; nothing that was measured by then is lost.
    """
    with run.claimed():
        prepared = prepare_search(settings, run, store, environment, events)
        needs, room = check_room(prepared, search_dtype(settings, run, preferred_dtype()))
        say_needs(needs, room, events)
        needs.check_scoring(room)
        evaluator = Evaluator(environment)
        search_prepared(prepared, check_tasks(evaluator, prepared, events), evaluator, run, events)


def search_prepared(
    prepared: PreparedSearch,
    tasks: dict[ItemsPart, list[PreparedTask]],
    evaluator: Evaluator,
    run: RunDirectory,
    events: Events,
) -> None:
    """The same of a search that is prepared, its `tasks` too, in a run that is claimed."""
    opened = None if prepared.supernet is None else _open(prepared, prepared.supernet, run)
    run.record(prepared.settings)  # only now: a run that belongs to another search stays as it is
    run.link(prepared.place)
    _announce(prepared, run, tasks, opened, events)
    plan, history = opened or _open(prepared, fine_tune_here(prepared, events), run)
    with closing(history):
        history.note("origins", prepared.origins | {task.name: task.origin for task in tasks["search"]})
        with embedded_farm(evaluator, requests_queue(plan.supernet.digest)) as (broker, check_evaluator):
            search_to_report(plan, history, broker, EmbeddedEvaluator(check_evaluator), run, events)


def _open(prepared: PreparedSearch, supernet: Supernet, run: RunDirectory) -> tuple[SearchPlan, History]:
    return open_search(prepared.settings, run, supernet, prepared.base_reference, preferred_dtype())


def _announce(
    prepared: PreparedSearch,
    run: RunDirectory,
    tasks: dict[ItemsPart, list[PreparedTask]],
    opened: tuple[SearchPlan, History] | None,
    events: Events,
) -> None:
    rate = parameter_tokens_per_second(prepared.base, preferred_dtype())
    tokens = (sum(task.tokens for task in tasks["search"]), sum(task.tokens for task in tasks["report"]))
    space, settings = prepared.space, prepared.settings
    events.publish(SpaceDescribed(space, search_dtype(settings, run, preferred_dtype())))
    work = work_left(*opened) if opened else whole_work(settings, space)
    cost = estimate(settings, space, rate, *tokens, work)
    asked = opened[1].asked() if opened else 0
    networks = networks_to_measure(settings.search, space, asked)
    events.publish(CostEstimated(settings, networks, cost, fine_tunes=prepared.supernet is None))
