"""`nasfarm train`: the super-network of a search file. Needs torch, as all that checks a search on this machine."""

from dataclasses import dataclass
from pathlib import Path

from services.application.checkpoint_content import content_of, fetched
from services.application.estimate import assumed_tokens, estimate, whole_work
from services.application.run_directory import RunDirectory
from services.application.supernet_store import (
    DIGEST,
    Supernet,
    SupernetRequirement,
    SupernetStore,
    clear_workspace,
    is_supernet,
    making,
    named_supernet,
    supernet_of_run,
    workspace_of,
)
from services.cli.console import console, duration
from services.cli.progress_bars import stage
from services.cli.quiet import quiet_libraries
from services.cli.search_summary import print_space
from services.evaluator.evaluator import Evaluator
from services.evaluator.preparation import PreparedTask
from services.evaluator.speed import parameter_tokens_per_second
from services.evaluator.tasks.index import include_tasks
from services.evaluator.tasks.local import DataMissingError
from services.trainer.fine_tuning import StepReport
from services.trainer.make_supernet import STATE, TrainingPlan, check_unfinished, make_supernet, plan_training
from shared.checkpoint_files import FileDigests
from shared.environment import Environment
from shared.errors import UserError
from shared.files import user_path
from shared.identity import TOKENS_VERSION
from shared.manifest import search_space
from shared.messages import CheckpointRef
from shared.settings import Part, SearchSettings, read_search_file
from shared.space import SearchSpace
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.device import preferred_dtype
from shared.supernet.order import drop_order


@dataclass(frozen=True)
class PreparedSearch:
    """A search that was read and found possible: model, data and tasks are there.

    `training` is the plan of its super-network, None where the search file names one; `supernet` is None until there is
    one, which is going to lie in `place`.
    """

    settings: SearchSettings
    base: Checkpoint
    base_digest: str
    training: TrainingPlan | None
    supernet: Supernet | None
    place: Path
    origins: dict[str, str]

    @property
    def base_reference(self) -> CheckpointRef:
        """The base checkpoint as it lies on this machine; evaluators may run in directories of their own."""
        return CheckpointRef(location=str(self.base.directory.absolute()), digest=self.base_digest)


def train_supernet(search_file: Path, runs: Path, store: SupernetStore) -> None:
    """Make the super-network of a search file, where it isn't there yet, once its tasks are found to be as they should
    if their data are to be had here."""
    quiet_libraries()
    settings, environment = read_search_file(search_file), Environment.read()
    run = RunDirectory(runs / settings.name)
    run.check_name()
    checked = check(settings, run, store, environment, to_be_made=True)
    if checked.supernet is not None:
        console.print(f"{checked.supernet.directory} is finished already.")
        return
    try:
        check_tasks(Evaluator(environment), checked)
    except DataMissingError as error:  # the search's machine may have them
        console.print(f"Tasks          not checked: {error}")
    rate = parameter_tokens_per_second(checked.base, preferred_dtype())
    space = space_before_ordering(checked)
    cost = estimate(settings, space, rate, *assumed_tokens(settings), whole_work(settings))
    print_space(space, preferred_dtype())
    console.print(f"Fine-tuning    about {duration(cost.training)}")
    console.print(f"Super-network  {fine_tune(checked).directory}")


def train_before_search(
    settings: SearchSettings, run: RunDirectory, store: SupernetStore, environment: Environment
) -> Supernet:
    """Make the super-network of a search that others are going to measure, once tasks are found to be there too."""
    quiet_libraries()
    checked = check(settings, run, store, environment)
    check_tasks(Evaluator(environment), checked)
    run.record(settings)
    run.link(checked.place)
    return checked.supernet or fine_tune(checked)


def check(
    settings: SearchSettings,
    run: RunDirectory,
    store: SupernetStore,
    environment: Environment,
    to_be_made: bool = False,
) -> PreparedSearch:
    """Find model and training data, and the super-network if it is finished.

    A super-network that the search file names must be there, unless it is `to_be_made`. Raises UserError if anything is
    wrong.
    """
    directory, origin = fetched(settings.model)
    console.print(f"Model          {origin}")
    digests = FileDigests(environment.cache)
    place = _place_to_make(settings.supernet) if to_be_made and settings.supernet else None
    if settings.supernet is not None and place is None:
        return _check_named(settings, store, Checkpoint.open(directory), origin, digests)
    files = content_of(directory, digests)
    with stage("Training data", note="reading"):
        training = plan_training(settings, directory, environment)
    console.print(f"Training data  {training.instructions.origin}, {len(training.examples):,} examples")
    for left_out in training.left_out:
        console.print(f"               {left_out}")
    origins = {"model": origin, "training data": training.instructions.origin}
    supernet = None
    if place is None:
        asked = SupernetRequirement(settings, files, training.instructions.digest)
        place = store.place(training.digest)
        supernet = supernet_of_run(run, store, asked)
    if supernet is None and is_supernet(place):
        supernet = Supernet.read(place)
    if supernet is None:
        check_unfinished(training, workspace_of(place))
        former = run.path / STATE
        if former.is_file():
            console.print(f"Fine-tuning    begins anew: {former} is of an earlier release; it can be removed")
        return PreparedSearch(settings, training.base, training.base_digest, training, None, place, origins)
    _say_that_it_is_there(supernet, digests)
    base_digest = supernet.manifest.base_digest
    return PreparedSearch(settings, training.base, base_digest, training, supernet, supernet.directory, origins)


def _place_to_make(name: str) -> Path | None:
    """Where `nasfarm train` makes the super-network that a search file names; None if it is there, or a digest."""
    directory = user_path(name)
    return None if is_supernet(directory) or DIGEST.fullmatch(name) else directory


def _check_named(
    settings: SearchSettings, store: SupernetStore, base: Checkpoint, origin: str, digests: FileDigests
) -> PreparedSearch:
    supernet = named_supernet(SupernetRequirement(settings, content_of(base.directory, digests), None), store)
    manifest = supernet.manifest
    search_space(base.network, settings.space, manifest.drop_order)  # refuses impossible choices
    _say_that_it_is_there(supernet, digests)
    origins = {"model": origin, "training data": manifest.data["origin"]}
    return PreparedSearch(settings, base, manifest.base_digest, None, supernet, supernet.directory, origins)


def _say_that_it_is_there(supernet: Supernet, digests: FileDigests) -> None:
    supernet.verify(content_of(supernet.directory, digests))
    clear_workspace(supernet.directory)
    steps = supernet.manifest.training.steps
    made = "" if supernet.manifest.tokens_version == TOKENS_VERSION else " by an earlier release"
    console.print(f"Super-network  {supernet.directory}, there already: made{made} in {steps} steps of fine-tuning")


def check_tasks(evaluator: Evaluator, checked: PreparedSearch) -> dict[Part, list[PreparedTask]]:
    """Read all items of both parts now, so that nothing is found wrong with them after an hour of fine-tuning."""
    settings = checked.settings
    if settings.include_path is not None:
        include_tasks(user_path(settings.include_path))
    prepared: dict[Part, list[PreparedTask]] = {}
    parts: tuple[Part, ...] = ("search", "report")
    for part in parts:
        spec = settings.spec(part, "float32")
        with stage("Tasks", note="reading"):
            prepared[part] = [evaluator.prepared(checked.base_reference, items) for items in spec.tasks]
        for task, metric in zip(prepared[part], settings.metrics, strict=True):
            if metric not in task.metrics:
                raise UserError(
                    f"tasks.{task.name}.metric: lm-eval has no {metric!r} for it, but {', '.join(task.metrics)}"
                )
            if not all(task.golds):
                raise UserError(f"tasks.{task.name}: doesn't count right answers; choose a task that does")
    for search_task, report_task in zip(prepared["search"], prepared["report"], strict=True):
        console.print(
            f"Task           {search_task.name}: {search_task.origin}; {len(search_task.documents)} items to search, "
            f"{len(report_task.documents)} others to report"
        )
    return prepared


def space_before_ordering(checked: PreparedSearch) -> SearchSpace:
    """The search space, of which sizes don't depend on the order of dropping."""
    network = checked.base.network
    return search_space(network, checked.settings.space, drop_order(network.depth, None))


def _say_that_another_makes_it() -> None:
    console.print("Super-network  another nasfarm just makes it; waiting for that")


def _made_meanwhile(place: Path, plan: TrainingPlan) -> Supernet:
    supernet = Supernet.read(place)
    if supernet.manifest.plan != plan.digest:
        raise UserError(f"{place}: another nasfarm has made another super-network there; name another directory")
    return supernet


def fine_tune(checked: PreparedSearch) -> Supernet:
    """Make the super-network, and show how that gets on; where another process makes it, wait for that."""
    plan, place = checked.training, checked.place
    if plan is None:
        raise ValueError("a super-network that the search file names is not made here")
    with making(place, _say_that_another_makes_it):
        if is_supernet(place):
            return _made_meanwhile(place, plan)
        begins = "ordering layers and neurons by their importance"
        with stage("Fine-tuning", checked.settings.training.steps, begins) as shown:

            def show(step: StepReport) -> None:
                losses = {"full": step.full_loss, "sub-networks": step.subnet_loss}
                known = (f"{network} {loss:.3f}" for network, loss in losses.items() if loss is not None)
                shown.reach(step.step, f"loss {', '.join(known)}")

            return Supernet(place, make_supernet(plan, workspace_of(place), place, show))
