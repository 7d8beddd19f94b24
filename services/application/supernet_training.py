"""Making the super-network of a search: fine-tuning, with what is said of it."""

import logging
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path

from services.application.enough_memory import enough_memory
from services.application.estimate import assumed_tokens, estimate, whole_work
from services.application.pipeline import search_dtype
from services.application.prepared_search import PreparedSearch, check_tasks, prepare_search
from services.application.quiet_libraries import quiet_libraries
from services.application.room import check_room, say_needs
from services.application.run_directory import RunDirectory
from services.application.search_events import FineTuningEstimated, SpaceDescribed
from services.application.supernet_store import Supernet, SupernetStore, is_supernet, making, workspace_of
from services.evaluator.evaluator import Evaluator
from services.evaluator.speed import parameter_tokens_per_second
from services.evaluator.tasks.local import DataMissingError
from services.trainer.distributed.environment import started_together
from services.trainer.distributed.processes import ALONE, Processes
from services.trainer.fine_tuning import StepReport
from services.trainer.make_supernet import TrainingPlan, make_supernet
from services.trainer.status import TrainerStatus
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events
from shared.memory_needs import recipes_for
from shared.settings import MemoryRecipe, SearchSettings
from shared.supernet.device import compute_device, preferred_dtype
from shared.telemetry.logs import fields
from shared.telemetry.server import telemetry_server

log = logging.getLogger(__name__)


def training_processes() -> AbstractContextManager[Processes]:
    """The processes that `torchrun` has started together with this one; by itself it is alone."""
    if not started_together():
        return nullcontext(ALONE)
    from services.trainer.distributed.process_group import process_group

    return process_group()


def train_supernet(
    settings: SearchSettings,
    run: RunDirectory,
    store: SupernetStore,
    environment: Environment,
    events: Events,
    processes: Processes = ALONE,
) -> None:
    """Make the super-network of a search, where it isn't there yet, once its tasks are found to be as they should if
    their data are to be had here. Several processes make it together; the first one fetches, checks and reports."""
    run.check_name()
    if processes.first:
        status = TrainerStatus(processes.size)
        server = telemetry_server(status.metrics.registry, {"fine-tuning": status.hung}, {}, environment)
        with server as telemetry:
            _train_first(settings, run, store, environment, events, processes, status, telemetry.port)
    else:
        processes.wait()  # until the first one has fetched what isn't here yet
        _take_part(prepare_search(settings, run, store, environment, events, to_be_made=True), store, processes)


def _train_first(
    settings: SearchSettings,
    run: RunDirectory,
    store: SupernetStore,
    environment: Environment,
    events: Events,
    processes: Processes,
    status: TrainerStatus,
    telemetry_port: int,
) -> None:
    prepared = prepare_search(settings, run, store, environment, events, to_be_made=True)
    processes.wait()
    if prepared.supernet is not None:
        processes.agree(None)
        events.note("Fine-tuning", "nothing to do, the super-network is finished")
        return
    dtype = search_dtype(settings, run, preferred_dtype())
    say_needs(*check_room(prepared, dtype), events)
    try:
        check_tasks(Evaluator(environment), prepared, events)
    except DataMissingError as error:  # the search's machine may have them
        events.note("Tasks", f"not checked: {error}")
    rate = parameter_tokens_per_second(prepared.base, preferred_dtype())
    space = prepared.space
    cost = estimate(settings, space, rate, *assumed_tokens(settings), whole_work(settings, space))
    events.publish(SpaceDescribed(space, dtype))
    machines = processes.size if compute_device().type == "cuda" else 1  # without GPUs they share the same cores
    events.publish(FineTuningEstimated(cost.training / machines))
    log.info("fine-tuning begins", extra=fields(processes=processes.size, telemetry_port=telemetry_port))
    with memory_for(_plan_of(prepared)):
        supernet = fine_tune(prepared, events, processes, status)
    log.info("super-network made", extra=fields(supernet=supernet.directory))
    events.note("Super-network", str(supernet.directory))


def supernet_before_search(
    settings: SearchSettings, run: RunDirectory, store: SupernetStore, environment: Environment, events: Events
) -> Supernet:
    """Make the super-network of a search that others are going to measure, once tasks are found to be there too."""
    quiet_libraries()
    prepared = prepare_search(settings, run, store, environment, events)
    say_needs(*check_room(prepared, search_dtype(settings, run, preferred_dtype())), events)
    check_tasks(Evaluator(environment), prepared, events)
    run.record(settings)
    run.link(prepared.place)
    return prepared.supernet or fine_tune_here(prepared, events)


def fine_tune_here(search: PreparedSearch, events: Events) -> Supernet:
    """`fine_tune` in this process alone. Raises UserError where memory runs out."""
    with memory_for(_plan_of(search)):
        return fine_tune(search, events)


def memory_for(plan: TrainingPlan) -> AbstractContextManager[None]:
    """Raises UserError where memory runs out, with the settings by which the fine-tuning of a search takes less."""
    recipes = recipes_for(plan.settings.training)
    leaner = recipes[recipes.index(plan.memory) + 1 :][:1] if plan.settings.training.steps else ()
    remedies = [*(f"set training.memory to {recipe}" for recipe in leaner), "lower training.tokens_per_step"]
    return enough_memory(f"training.memory {plan.memory}", ", or ".join(remedies))


def _made_meanwhile(place: Path, plan: TrainingPlan) -> Supernet:
    supernet = Supernet.read(place)
    if supernet.manifest.plan != plan.digest:
        raise UserError(f"{place}: another nasfarm has made another super-network there; name another directory")
    return supernet


def _take_part(search: PreparedSearch, store: SupernetStore, processes: Processes) -> None:
    """What the other processes do while the first one is in `fine_tune`: by its recipe, as `training.memory: auto`
    might be another one on a machine of theirs."""
    memory: MemoryRecipe | None = processes.agree(None)
    if memory is not None:
        plan = replace(_plan_of(search), memory=memory)
        place = store.place(plan.digest) if search.settings.supernet is None else search.place
        with memory_for(plan):
            make_supernet(plan, workspace_of(place), place, lambda _: None, processes)


def _plan_of(search: PreparedSearch) -> TrainingPlan:
    if search.training is None:
        raise ValueError("a super-network that the search file names is not made here")
    return search.training


def fine_tune(
    search: PreparedSearch, events: Events, processes: Processes = ALONE, status: TrainerStatus | None = None
) -> Supernet:
    """Make the super-network of a search, as the first of the processes; where another nasfarm makes it, wait for
    that. `status` is told of it, which a service shows."""
    plan, place, status = _plan_of(search), search.place, status or TrainerStatus(processes.size)
    with making(place, lambda: events.note("Super-network", "another nasfarm just makes it; waiting for that")):
        if processes.agree(None if is_supernet(place) else plan.memory) is None:
            return _made_meanwhile(place, plan)
        begins = "ordering layers and neurons"
        with ExitStack() as under_way:
            shown = under_way.enter_context(events.step("Fine-tuning", search.settings.training.steps, begins))

            def ordered(layers: int, of: int) -> None:
                shown.reach(0, f"finding which layers to drop, {layers} of {of}" if layers < of else begins)
                status.progressed()

            def show(step: StepReport) -> None:
                losses = {"full": step.full_loss, "sub-networks": step.subnet_loss}
                known = (f"{network} {loss:.3f}" for network, loss in losses.items() if loss is not None)
                shown.reach(step.step, f"loss {', '.join(known)}")
                status.stepped(step)

            def refitted(layers: int, of: int) -> None:
                nonlocal shown
                if layers == 0:
                    under_way.close()
                    shown = under_way.enter_context(events.step("Refit", of, "down projections for each width"))
                shown.reach(layers)
                status.progressed()

            status.began()
            make_supernet(plan, workspace_of(place), place, show, processes, refitted, ordered)
            status.ended()
        return Supernet.read(place)
