"""From a network of a run to one that was fine-tuned further, by itself: made, measured again, and put in its place
whole. Killed at any moment, the same command goes on."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from services.application.enough_memory import enough_memory
from services.application.estimate import TRAINING_COST
from services.application.export.choice import ChosenNetwork
from services.application.export.search_facts import search_facts
from services.application.export.searched_run import SearchedRun
from services.application.export.supernet import supernet_of
from services.application.finish.measurement import FinishMeasurements
from services.application.finish.options import FinishOptions, finish_settings, in_options, require_same
from services.application.finish.place import is_finished
from services.application.finish.record import FinishedRecord, FinishedResults
from services.application.room import Room
from services.application.search_events import FineTuningEstimated
from services.application.single_making import as_begun, make_shown
from services.application.supernet_store import Supernet, making, workspace_of
from services.evaluator.evaluator import Evaluator
from services.evaluator.speed import parameter_tokens_per_second
from services.reporting.wording import size
from services.trainer.memory_choice import needs_of
from services.trainer.recipe import FullMethod, Tuning
from services.trainer.single_fine_tuning import SinglePlan, plan_single
from services.trainer.training_data import TrainingData
from services.trainer.training_state import STATE, is_saved
from shared.checkpoint_files import content_digest
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events
from shared.files import writing
from shared.memory_needs import RECIPES
from shared.messages import CheckpointRef
from shared.network.sizes import outer_parameters, parameters
from shared.settings import MemoryRecipe
from shared.supernet.device import preferred_dtype

MADE = ".made"
"""After the digest of its recipe, the name of the checkpoint in what is unfinished, from when it is made until it is
measured. What is unfinished of its fine-tuning lies under the digest alone."""
MEASUREMENTS = ".sqlite"
"""The same of what is measured of it."""


@dataclass(frozen=True)
class Finished:
    """A finished network; whether it was there `already`; and why the run's report doesn't count that its items were
    used again, None where it does."""

    record: FinishedRecord
    already: bool
    uncounted: str | None = None


def finish_network(
    run: SearchedRun,
    chosen: ChosenNetwork,
    options: FinishOptions,
    target: Path,
    environment: Environment,
    events: Events,
) -> Finished:
    """Fine-tune a network of a run further, taught by the whole super-network, and measure it again on the report
    items; what is there already isn't made again.

    Raises UserError where it can't be had, trained, measured or written, and where `target` holds another one.
    """
    if is_finished(target):
        return Finished(_made_before(run, chosen, options, target), already=True)
    supernet = supernet_of(run, options.supernet, environment, events)
    plan, data, tuning = _planned(supernet, chosen, options, target, environment, events)
    reference = CheckpointRef(location=str(supernet.directory.absolute()), digest=run.plan.supernet.digest)
    workspace = workspace_of(target)
    made_there, kept = workspace / f"{plan.digest}{MADE}", workspace / f"{plan.digest}{MEASUREMENTS}"
    measurements = FinishMeasurements(run, reference, Evaluator(environment), kept, events)
    measurements.check_tasks()
    _require_room(plan, data, tuning, target, events)
    with making(target, lambda: events.note(chosen.name, "another nasfarm just finishes it; waiting for that")):
        if is_finished(target):
            return Finished(_made_before(run, chosen, options, target), already=True)
        with writing(workspace):
            workspace.mkdir(parents=True, exist_ok=True)
        _require_none_else_begun(workspace, plan)
        with enough_memory(f"--memory {tuning.memory}", _less_memory(tuning.memory)):
            made = make_shown(
                plan, workspace / plan.digest, made_there, chosen.name, events, rate_setting="--learning-rate"
            )
        checkpoint = CheckpointRef(location=str(made_there.absolute()), digest=content_digest(made.files))
        shape = plan.network.network
        answers, results = measurements.results(chosen.name, chosen.architecture, checkpoint, shape)
        uncounted = measurements.count_use()
        record = _record(run, chosen, supernet, plan, tuning, results)
        answers.write(made_there)
        record.write(made_there)
        with writing(target):
            if target.is_dir():
                target.rmdir()  # empty, as `place_of` has seen
            made_there.rename(target)
        for name, digest in made.files.items():
            plan.digests.remember(target / name, digest)
        shutil.rmtree(workspace, ignore_errors=True)
    return Finished(record, already=False, uncounted=uncounted)


def _made_before(run: SearchedRun, chosen: ChosenNetwork, options: FinishOptions, target: Path) -> FinishedRecord:
    """What lies there. Raises UserError if it is another network, or was made otherwise than is asked for."""
    record = FinishedRecord.read(target)
    if (record.architecture, record.supernet) != (chosen.architecture, run.plan.supernet.digest):
        raise UserError(
            f"{target}: holds another network, {record.network} of the run {record.run}; give another --output"
        )
    require_same(record.training, options, f"{target} was finished")
    shutil.rmtree(workspace_of(target), ignore_errors=True)  # left by who was killed at the very end
    return record


def _planned(
    supernet: Supernet,
    chosen: ChosenNetwork,
    options: FinishOptions,
    target: Path,
    environment: Environment,
    events: Events,
) -> tuple[SinglePlan, TrainingData, Tuning]:
    manifest, workspace = supernet.manifest, workspace_of(target)
    settings = finish_settings(manifest.training, options)
    try:
        with events.step("Training data", note="reading"):
            plan = plan_single(
                supernet.directory,
                manifest.digest,
                chosen.architecture.quantized("none"),
                settings,
                FullMethod(),
                environment,
                teacher="base only" if settings.distillation == "all" else "base",
            )
    except UserError as error:
        raise UserError(in_options(str(error))) from error
    plan = as_begun(
        plan, lambda digest: (workspace / f"{digest}{MADE}").is_dir(), lambda digest: (workspace / digest).is_dir()
    )
    data, tuning = plan.data, plan.recipe.tuning
    if data is None or tuning is None:
        raise ValueError("a fine-tuning has steps")
    events.note("Training data", f"{data.origin}, {len(data.examples):,} examples")
    for left_out in data.left_out:
        events.note("", in_options(left_out))
    if options.data is None and data.digest != manifest.data["digest"]:
        events.note("", "they have changed since the super-network was fine-tuned")
    return plan, data, tuning


def _record(
    run: SearchedRun,
    chosen: ChosenNetwork,
    supernet: Supernet,
    plan: SinglePlan,
    tuning: Tuning,
    results: FinishedResults,
) -> FinishedRecord:
    return FinishedRecord(
        run=run.name,
        network=chosen.name,
        architecture=chosen.architecture,
        supernet=run.plan.supernet.digest,
        base=supernet.manifest.base,
        base_network=plan.base.network.to_json(),
        plan=plan.digest,
        training=tuning.training,
        dtype=run.plan.dtype,
        settings=run.plan.settings.model_dump(mode="json"),
        search=search_facts(run, chosen),
        results=results,
    )


def _require_none_else_begun(workspace: Path, plan: SinglePlan) -> None:
    """What was begun otherwise and has saved nothing yet gives way."""
    others = [path for path in workspace.iterdir() if path.is_dir() and not path.name.startswith(plan.digest)]
    if any(path.name.endswith(MADE) or is_saved(path / STATE) for path in others):
        raise UserError(
            f"{workspace}: holds an unfinished fine-tuning with other options, network or data; repeat those, remove "
            "it, or give another --output"
        )
    for path in others:
        shutil.rmtree(path, ignore_errors=True)


def _require_room(plan: SinglePlan, data: TrainingData, tuning: Tuning, target: Path, events: Events) -> None:
    """Say what the fine-tuning takes, and how long. Raises UserError where it can't fit."""
    settings, memory, network, whole = tuning.training, tuning.memory, plan.network.network, plan.base.network
    room = Room.here(target)
    needs = needs_of(plan.network, settings, data, memory, teacher=whole)
    line = f"fine-tuning {size(needs.device)} ({memory})"
    if room.device is not None:
        line += f", of {size(room.device.total)} that {room.device_name} has ({size(room.device.free)} free)"
    events.note("Memory", f"{line}; {size(needs.disk)} of disk ({size(room.disk)} free)")
    if room.device is not None and needs.device > room.device.total:
        raise UserError(
            f"--memory {memory}: takes {size(needs.device)} to fine-tune the network, {room.device_name} has "
            f"{size(room.device.total)}; {_less_memory(memory)}"
        )
    if needs.disk > room.disk:
        raise UserError(
            f"{target}: needs {size(needs.disk)} of disk, {size(room.disk)} are free; make room, or give another "
            "--output"
        )
    own, teaching = (parameters(each) - outer_parameters(each) for each in (network, whole))
    passes = TRAINING_COST * own + teaching
    rate = parameter_tokens_per_second(plan.base, preferred_dtype())
    events.publish(FineTuningEstimated(plan.tokens * passes / rate))


def _less_memory(memory: MemoryRecipe) -> str:
    leaner = RECIPES[RECIPES.index(memory) + 1 :][:1]
    return ", or ".join([*(f"give --memory {recipe}" for recipe in leaner), "lower --tokens-per-step"])
