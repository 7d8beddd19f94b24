"""Making the super-network of a search: fine-tuning, with what is said of it."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from services.application.estimate import assumed_tokens, estimate, whole_work
from services.application.pipeline import search_dtype
from services.application.prepared_search import PreparedSearch, check_tasks, prepare_search
from services.application.quiet_libraries import quiet_libraries
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
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events
from shared.settings import SearchSettings
from shared.supernet.device import preferred_dtype


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
    if not processes.first:
        processes.wait()  # until it has fetched what isn't here yet
    prepared = prepare_search(settings, run, store, environment, events, to_be_made=True)
    if not processes.first:
        _take_part(prepared, processes)
        return
    processes.wait()
    if prepared.supernet is not None:
        processes.agree(False)
        events.note("Fine-tuning", "nothing to do, the super-network is finished")
        return
    try:
        check_tasks(Evaluator(environment), prepared, events)
    except DataMissingError as error:  # the search's machine may have them
        events.note("Tasks", f"not checked: {error}")
    rate = parameter_tokens_per_second(prepared.base, preferred_dtype())
    space = prepared.unordered_space
    cost = estimate(settings, space, rate, *assumed_tokens(settings), whole_work(settings, space))
    events.publish(SpaceDescribed(space, search_dtype(settings, run, preferred_dtype())))
    events.publish(FineTuningEstimated(cost.training))
    events.note("Super-network", str(fine_tune(prepared, events, processes).directory))


def supernet_before_search(
    settings: SearchSettings, run: RunDirectory, store: SupernetStore, environment: Environment, events: Events
) -> Supernet:
    """Make the super-network of a search that others are going to measure, once tasks are found to be there too."""
    quiet_libraries()
    prepared = prepare_search(settings, run, store, environment, events)
    check_tasks(Evaluator(environment), prepared, events)
    run.record(settings)
    run.link(prepared.place)
    return prepared.supernet or fine_tune(prepared, events)


def _made_meanwhile(place: Path, plan: TrainingPlan) -> Supernet:
    supernet = Supernet.read(place)
    if supernet.manifest.plan != plan.digest:
        raise UserError(f"{place}: another nasfarm has made another super-network there; name another directory")
    return supernet


def _take_part(search: PreparedSearch, processes: Processes) -> None:
    """What the other processes do while the first one is in `fine_tune`."""
    if processes.agree(False):
        make_supernet(_plan_of(search), workspace_of(search.place), search.place, lambda _: None, processes)


def _plan_of(search: PreparedSearch) -> TrainingPlan:
    if search.training is None:
        raise ValueError("a super-network that the search file names is not made here")
    return search.training


def fine_tune(search: PreparedSearch, events: Events, processes: Processes = ALONE) -> Supernet:
    """Make the super-network of a search, as the first of the processes; where another nasfarm makes it, wait for
    that."""
    plan, place = _plan_of(search), search.place
    with making(place, lambda: events.note("Super-network", "another nasfarm just makes it; waiting for that")):
        if not processes.agree(not is_supernet(place)):
            return _made_meanwhile(place, plan)
        begins = "ordering layers and neurons by their importance"
        with events.step("Fine-tuning", search.settings.training.steps, begins) as shown:

            def show(step: StepReport) -> None:
                losses = {"full": step.full_loss, "sub-networks": step.subnet_loss}
                known = (f"{network} {loss:.3f}" for network, loss in losses.items() if loss is not None)
                shown.reach(step.step, f"loss {', '.join(known)}")

            make_supernet(plan, workspace_of(place), place, show, processes)
        return Supernet.read(place)
