"""A search made ready: its model, training data and tasks checked, its super-network looked for. Needs torch."""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from services.application.checkpoint_content import content_of, fetched
from services.application.run_directory import RunDirectory
from services.application.supernet_choice import SupernetRequirement, named_supernet, supernet_of_run
from services.application.supernet_store import (
    DIGEST,
    Supernet,
    SupernetStore,
    clear_workspace,
    is_supernet,
    workspace_of,
)
from services.evaluator.evaluator import Evaluator
from services.evaluator.preparation import PreparedTask
from services.evaluator.tasks.index import include_tasks
from services.trainer.make_supernet import TrainingPlan, check_unfinished, plan_training
from services.trainer.memory_choice import recorded_memory
from services.trainer.training_data import TrainingData
from services.trainer.training_state import FORMER_STATE
from shared.checkpoint_files import FileDigests
from shared.drop_orders import unmeasured_orders
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events
from shared.files import user_path
from shared.identity import TOKENS_VERSION
from shared.manifest import search_space
from shared.messages import CheckpointRef
from shared.settings import ItemsPart, SearchSettings
from shared.space import SearchSpace
from shared.supernet.checkpoint import Checkpoint


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

    @property
    def space(self) -> SearchSpace:
        """The search space. As long as there is no super-network its orders of dropping are made up: sizes don't depend
        on them, and there are fewer networks where rules turn out to agree."""
        network, space = self.base.network, self.settings.space
        if self.supernet is None:
            return search_space(network, space, unmeasured_orders(network.depth, len(space.depth_rules)))
        return search_space(network, space, self.supernet.manifest.orders_of(space.depth_rules))


def prepare_search(
    settings: SearchSettings,
    run: RunDirectory,
    store: SupernetStore,
    environment: Environment,
    events: Events,
    to_be_made: bool = False,
    data: TrainingData | None = None,
) -> PreparedSearch:
    """Find model and training data, and the super-network if it is finished. `data` are another search's: what they
    have in common with this one's isn't loaded again.

    A super-network that the search file names must be there, unless it is `to_be_made`. Raises UserError if anything is
    wrong.
    """
    directory, origin = fetched(settings.model, events)
    events.note("Model", origin)
    digests = FileDigests(environment.cache)
    place = _place_to_make(settings.supernet) if to_be_made and settings.supernet else None
    if settings.supernet is not None and place is None:
        return _check_named(settings, store, Checkpoint.open(directory), origin, digests, events)
    files = content_of(directory, digests, events)
    with events.step("Training data", note="reading"):
        training = plan_training(settings, directory, environment, data)
    events.note("Training data", f"{training.data.origin}, {len(training.data.examples):,} examples")
    for left_out in training.data.left_out:
        events.note("", left_out)
    origins = {"model": origin, "training data": training.data.origin}
    supernet = None
    training = _as_begun(training, place, store)
    if place is None:
        asked = SupernetRequirement(settings, files, training.data.digest)
        place = store.place(training.digest)
        supernet = supernet_of_run(run, store, asked)
    if supernet is None and is_supernet(place):
        supernet = Supernet.read(place)
    if supernet is None:
        check_unfinished(training, workspace_of(place))
        former = run.path / FORMER_STATE
        if former.is_file():
            events.note("Fine-tuning", f"starts again: {former} is of an earlier release; it can be removed")
        return PreparedSearch(settings, training.base, training.base_digest, training, None, place, origins)
    _check_found(supernet, digests, events)
    base_digest = supernet.manifest.base_digest
    return PreparedSearch(settings, training.base, base_digest, training, supernet, supernet.directory, origins)


def _as_begun(training: TrainingPlan, place: Path | None, store: SupernetStore) -> TrainingPlan:
    """The plan with what `training.memory: auto` took before, on whatever machine: of a super-network of the store that
    is there, else of one whose fine-tuning was interrupted."""
    places = [(each, store.place(each.digest) if place is None else place) for each in training.choices]
    finished = (each for each, there in places if is_supernet(there))
    begun = (each for each, there in places if recorded_memory(workspace_of(there)) == each.memory)
    return next(chain(finished, begun), training)


def _place_to_make(name: str) -> Path | None:
    """Where `nasfarm train` makes the super-network that a search file names; None if it is there, or a digest."""
    directory = user_path(name)
    return None if is_supernet(directory) or DIGEST.fullmatch(name) else directory


def _check_named(
    settings: SearchSettings,
    store: SupernetStore,
    base: Checkpoint,
    origin: str,
    digests: FileDigests,
    events: Events,
) -> PreparedSearch:
    supernet = named_supernet(SupernetRequirement(settings, content_of(base.directory, digests, events), None), store)
    manifest = supernet.manifest
    orders = manifest.orders_of(settings.space.depth_rules)
    search_space(base.network, settings.space, orders)  # refuses impossible choices
    _check_found(supernet, digests, events)
    origins = {"model": origin, "training data": manifest.data["origin"]}
    return PreparedSearch(settings, base, manifest.base_digest, None, supernet, supernet.directory, origins)


def _check_found(supernet: Supernet, digests: FileDigests, events: Events) -> None:
    """Verify a super-network that is there already, and say so."""
    supernet.verify(content_of(supernet.directory, digests, events))
    clear_workspace(supernet.directory)
    steps = supernet.manifest.training.steps
    made = "" if supernet.manifest.tokens_version == TOKENS_VERSION else " by an earlier release"
    events.note("Super-network", f"{supernet.directory}, there already: made{made} in {steps} steps of fine-tuning")


def check_tasks(evaluator: Evaluator, search: PreparedSearch, events: Events) -> dict[ItemsPart, list[PreparedTask]]:
    """Read all items of both parts now, so that nothing is found wrong with them after an hour of fine-tuning."""
    settings = search.settings
    if settings.include_path is not None:
        include_tasks(user_path(settings.include_path))
    prepared: dict[ItemsPart, list[PreparedTask]] = {}
    parts: tuple[ItemsPart, ...] = ("search", "report")
    for part in parts:
        spec = settings.spec(part, "float32")
        with events.step("Tasks", note="reading"):
            prepared[part] = [evaluator.prepared(search.base_reference, items) for items in spec.tasks]
        for task, metric in zip(prepared[part], settings.metrics, strict=True):
            if metric not in task.metrics:
                raise UserError(
                    f"tasks.{task.name}.metric: lm-eval has no {metric!r} for it, but {', '.join(task.metrics)}"
                )
            if not all(task.golds):
                raise UserError(f"tasks.{task.name}: doesn't count right answers; choose a task that does")
    for search_task, report_task in zip(prepared["search"], prepared["report"], strict=True):
        events.note(
            "Task",
            f"{search_task.name}: {search_task.origin}; {len(search_task.documents)} items to search, "
            f"{len(report_task.documents)} others to report",
        )
    return prepared
