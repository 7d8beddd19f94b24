"""A study made ready: everything that it is going to need is looked for, and everything that can't work is said, before
anything is computed. Needs torch."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from services.application.pipeline import search_dtype
from services.application.prepared_search import PreparedSearch, check_tasks, prepare_search
from services.application.room import check_room, say_needs
from services.application.study.calibration_text import calibration_text
from services.application.study.reading import difference_of_search, difference_of_study, searches_of
from services.application.study.study_directory import StudyDirectory
from services.application.supernet_store import SupernetStore
from services.coordinator.history import History
from services.coordinator.study.choice import most_parameters
from services.evaluator.evaluator import Evaluator
from services.evaluator.preparation import PreparedTask
from services.evaluator.tasks.local import DataMissingError
from services.pruner.make_pruned import PruningPlan, plan_pruning
from services.pruner.target import ParameterTarget
from services.trainer.lora import require_peft
from services.trainer.training_data import TrainingData
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events
from shared.messages import CheckpointRef
from shared.settings import ItemsPart, SearchSettings, TrainingSettings
from shared.settings.baselines import BaselineName
from shared.settings.study_file import NarrowLayers, StudiedSupernet, StudySettings
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.device import preferred_dtype

Tasks = dict[ItemsPart, list[PreparedTask]]


@dataclass(frozen=True)
class PlannedBaseline:
    """A baseline at a size, known to be possible."""

    name: BaselineName
    times_smaller: float
    pruning: PruningPlan


@dataclass(frozen=True)
class PreparedStudy:
    """A study that was read and found possible.

    Attributes:
        first: of each super-network, by its name, the first search over it that has begun, or is going to.
        tasks: the items of all tasks; None where their data aren't here but, as is hoped, on a farm.
        baselines: the networks that are going to be pruned, by size, then in the file's order.
    """

    settings: StudySettings
    first: dict[str, PreparedSearch]
    evaluator: Evaluator
    tasks: Tasks | None
    baselines: tuple[PlannedBaseline, ...]

    @property
    def base(self) -> Checkpoint:
        """The untouched model."""
        return self._any.base

    @property
    def base_reference(self) -> CheckpointRef:
        """The untouched model as every search names it."""
        return self._any.base_reference

    @property
    def _any(self) -> PreparedSearch:
        return self.first[self.settings.supernets[0].name]

    def tasks_of(self, settings: SearchSettings) -> Tasks:
        """Those of the prepared tasks that a search measures."""
        names = [task.name for task in settings.tasks]
        return {part: [task for task in tasks if task.name in names] for part, tasks in (self.tasks or {}).items()}


def prepare_study(
    settings: StudySettings,
    directory: StudyDirectory,
    store: SupernetStore,
    environment: Environment,
    events: Events,
    on_farm: bool,
) -> PreparedStudy:
    """Find and check everything. Raises UserError for the first thing that is wrong."""
    _check_settings(settings, on_farm)
    first: dict[str, PreparedSearch] = {}
    for supernet in settings.supernets:
        asked = _begun_or_first(settings, supernet, directory)
        try:
            first[supernet.name] = prepare_search(
                asked, directory.search(asked), store, environment, events, data=_shared(supernet.training, first)
            )
            dtype = search_dtype(asked, directory.search(asked), preferred_dtype())
            say_needs(*check_room(first[supernet.name], dtype), events)
        except UserError as error:
            if str(error).startswith(("space", "training")):
                raise UserError(f"supernets.{supernet.name}.{error}") from error
            raise
        _check_sizes(settings, supernet.name, first[supernet.name])
    for heuristic in settings.heuristics:
        _check_heuristic(heuristic, first[heuristic.supernet])
    _check_begun(settings, directory, first)
    base = first[settings.supernets[0].name]
    evaluator = Evaluator(environment)
    return PreparedStudy(
        settings=settings,
        first=first,
        evaluator=evaluator,
        tasks=_tasks(settings, base, evaluator, events, on_farm),
        baselines=tuple(_baselines(settings, base, environment, events)),
    )


def _shared(training: TrainingSettings, others: dict[str, PreparedSearch]) -> TrainingData | None:
    """The training data of another super-network that has the same, as examples of the same length if one has those."""
    known = [each.training.data for each in others.values() if each.training is not None]
    same = [data for data in known if data.name == training.data]
    return next((data for data in same if data.tokens_per_step == training.tokens_per_step), next(iter(same), None))


def _check_settings(settings: StudySettings, on_farm: bool) -> None:
    """Refuse what is wrong whatever the model, as far as the file alone doesn't show it."""
    for _, _, asked in searches_of(settings):
        if on_farm and asked.files_of_tasks is not None:
            raise UserError(
                f"{asked.files_of_tasks}: evaluators of a farm read no tasks from files, which may hold code; name "
                "tasks of lm-eval, or run the study without --broker"
            )
    recovering = [options.baseline for options in settings.baselines if options.baseline in settings.fine_tuning.lora]
    if recovering:
        try:
            require_peft()
        except UserError as error:
            raise UserError(f"fine_tuning.lora: {', '.join(recovering)}: {error}; or give an empty list") from error


def _begun_or_first(settings: StudySettings, supernet: StudiedSupernet, directory: StudyDirectory) -> SearchSettings:
    """Of the searches over a super-network one that has begun, so that all continue with the same super-network; the
    first one if none has."""
    searches = [settings.search_settings(supernet, chosen_on) for chosen_on in settings.searched]
    return next((asked for asked in searches if directory.search(asked).history.is_file()), searches[0])


def _check_begun(settings: StudySettings, directory: StudyDirectory, first: dict[str, PreparedSearch]) -> None:
    """Refuse what can't be continued with these settings, while all that is there is left as it is."""
    for supernet, chosen_on, asked in searches_of(settings):
        run, prepared = directory.search(asked), first[supernet.name]
        if not run.history.is_file():
            continue
        made = None if prepared.supernet is None else prepared.supernet.manifest.digest
        with closing(History.read(run.history)) as history:
            found = difference_of_search(history, asked, prepared.base_digest, made)
        if found is not None:
            by_default = settings.timed is not None and settings.timed_task is None and found.startswith("serving was")
            timed = "name the task that was timed before as `timed_task`, " if by_default else ""
            raise UserError(
                f"{run.path}: the search of {supernet.name} on {chosen_on} began otherwise ({found}); {timed}restore "
                "study file and model, change `name` to begin a new study, or remove that directory to search again"
            )
    found = difference_of_study(directory, settings, first[settings.supernets[0].name].base_digest)
    if found is not None:
        raise UserError(
            f"{directory.history}: was measured of another model ({found}); restore that, or change `name` in the "
            "study file to begin a new study"
        )


def _check_sizes(settings: StudySettings, name: str, search: PreparedSearch) -> None:
    """Refuse sizes of which a super-network has no network."""
    space = search.space
    smallest = space.parameters(space.smallest())
    for size in settings.sizes:
        at_most = most_parameters(search.base.network, size)
        if smallest > at_most:
            raise UserError(
                f"sizes: {size:g} times smaller means at most {at_most:,} parameters, but the smallest network of "
                f"super-network {name} has {smallest:,}; widen its space, or leave the size out"
            )


def _check_heuristic(heuristic: NarrowLayers, search: PreparedSearch) -> None:
    """Refuse layers that the model doesn't have."""
    depth = search.base.network.depth
    if max(heuristic.layers) >= depth:
        raise UserError(
            f"heuristics.{heuristic.name}.layers: there is no layer {max(heuristic.layers)}; the model's are counted "
            f"from 0 to {depth - 1}"
        )


def _tasks(
    settings: StudySettings, search: PreparedSearch, evaluator: Evaluator, events: Events, on_farm: bool
) -> Tasks | None:
    every = search.settings.model_copy(update={"tasks": settings.tasks})
    try:
        return check_tasks(evaluator, replace(search, settings=every), events)
    except DataMissingError as error:  # the evaluators may have them
        if not on_farm:
            raise
        events.note("Tasks", f"not checked: {error}")
        return None


def _baselines(
    settings: StudySettings, search: PreparedSearch, environment: Environment, events: Events
) -> Iterator[PlannedBaseline]:
    if not settings.baselines:
        return
    directory: Path = search.base.directory
    with events.step("Calibration", note="reading"):
        text = calibration_text(settings.calibration, directory, settings.seed, environment)
    events.note("Calibration", f"{settings.calibration.data}: {len(text.sequences):,} rows, {text.tokens:,} tokens")
    if text.tokens < settings.calibration.tokens:
        events.note("", f"all that these data have, of the {settings.calibration.tokens:,} of calibration.tokens")
    for size in settings.sizes:
        target = ParameterTarget(at_most=most_parameters(search.base.network, size))
        for options in settings.baselines:
            try:
                plan = plan_pruning(directory, search.base_digest, options, target, text, settings.seed)
            except UserError as error:
                raise UserError(f"baselines, {size:g} times smaller: {error}") from error
            yield PlannedBaseline(options.baseline, size, plan)
