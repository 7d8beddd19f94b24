"""Making the super-network of a search: fine-tuning, with what is said of it."""

from pathlib import Path

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
from services.trainer.fine_tuning import StepReport
from services.trainer.make_supernet import TrainingPlan, make_supernet
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events
from shared.settings import SearchSettings
from shared.supernet.device import preferred_dtype


def train_supernet(
    settings: SearchSettings, run: RunDirectory, store: SupernetStore, environment: Environment, events: Events
) -> None:
    """Make the super-network of a search, where it isn't there yet, once its tasks are found to be as they should if
    their data are to be had here."""
    run.check_name()
    prepared = prepare_search(settings, run, store, environment, events, to_be_made=True)
    if prepared.supernet is not None:
        events.note("Fine-tuning", "nothing to do, the super-network is finished")
        return
    dtype = search_dtype(settings, run, preferred_dtype())
    say_needs(*check_room(prepared, dtype), events)
    try:
        check_tasks(Evaluator(environment), prepared, events)
    except DataMissingError as error:  # the search's machine may have them
        events.note("Tasks", f"not checked: {error}")
    rate = parameter_tokens_per_second(prepared.base, preferred_dtype())
    space = prepared.unordered_space
    cost = estimate(settings, space, rate, *assumed_tokens(settings), whole_work(settings, space))
    events.publish(SpaceDescribed(space, dtype))
    events.publish(FineTuningEstimated(cost.training))
    events.note("Super-network", str(fine_tune(prepared, events).directory))


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
    return prepared.supernet or fine_tune(prepared, events)


def _made_meanwhile(place: Path, plan: TrainingPlan) -> Supernet:
    supernet = Supernet.read(place)
    if supernet.manifest.plan != plan.digest:
        raise UserError(f"{place}: another nasfarm has made another super-network there; name another directory")
    return supernet


def fine_tune(search: PreparedSearch, events: Events) -> Supernet:
    """Make the super-network of a search; where another process makes it, wait for that."""
    plan, place = search.training, search.place
    if plan is None:
        raise ValueError("a super-network that the search file names is not made here")
    with making(place, lambda: events.note("Super-network", "another nasfarm just makes it; waiting for that")):
        if is_supernet(place):
            return _made_meanwhile(place, plan)
        begins = "ordering layers and neurons by their importance"
        with events.step("Fine-tuning", search.settings.training.steps, begins) as shown:

            def show(step: StepReport) -> None:
                losses = {"full": step.full_loss, "sub-networks": step.subnet_loss}
                known = (f"{network} {loss:.3f}" for network, loss in losses.items() if loss is not None)
                shown.reach(step.step, f"loss {', '.join(known)}")

            return Supernet(place, make_supernet(plan, workspace_of(place), place, show))
