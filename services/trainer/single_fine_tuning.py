"""Fine-tune a single network: cut it out of a checkpoint, train it as a whole or by LoRA, perhaps taught by what it was
cut out of, and write it as a checkpoint like any other."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from services.trainer.fine_tuning import Gradients, StepReport, TrainedKind, fine_tune, gradients_of
from services.trainer.lora import adapt, require_peft
from services.trainer.memory_choice import memory_to_take
from services.trainer.recipe import FullMethod, LoraMethod, SingleRecipe, SingleRecord, Teacher, Tuning
from services.trainer.training_data import TrainingData, load_training_data
from services.trainer.training_state import STATE, TrainingState, load_state
from services.trainer.weight_updates import computing_dtype, held_dtype
from shared.architecture import Architecture, dense
from shared.checkpoint_files import FileDigests
from shared.environment import Environment
from shared.errors import UserError
from shared.files import writing
from shared.manifest import LOSSES
from shared.memory_needs import RECIPES
from shared.network.sizes import parameters
from shared.recipe_file import library_versions, origin_of
from shared.settings import TrainingSettings
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from shared.supernet.device import compute_device, preferred_dtype, torch_dtype
from shared.supernet.saving import save_network


@dataclass(frozen=True)
class SinglePlan:
    """What is going to be made: all that it needs, loaded and checked before anything is computed.

    `base` is the checkpoint that the network is cut out of, `network` the cut one, as a checkpoint that lies nowhere
    yet; `data` is None where it is only cut out.
    """

    base: Checkpoint
    network: Checkpoint
    recipe: SingleRecipe
    data: TrainingData | None
    source: dict[str, Any] | None
    digests: FileDigests

    @property
    def digest(self) -> str:
        """Identity of what is made."""
        return self.recipe.digest

    @property
    def choices(self) -> "list[SinglePlan]":
        """The plans that `training.memory` leaves to choose from."""
        tuning = self.recipe.tuning
        if tuning is None or tuning.training.memory != "auto" or isinstance(tuning.method, LoraMethod):
            return [self]
        tunings = [tuning.model_copy(update={"memory": memory}) for memory in RECIPES]
        return [replace(self, recipe=self.recipe.model_copy(update={"tuning": each})) for each in tunings]

    @property
    def tokens(self) -> int:
        """Tokens of training data, as many as the steps can hold."""
        tuning = self.recipe.tuning
        return 0 if tuning is None else tuning.training.steps * tuning.training.tokens_per_step


def plan_single(
    source: Path,
    source_digest: str,
    architecture: Architecture | None,
    settings: TrainingSettings,
    method: FullMethod | LoraMethod,
    environment: Environment,
    data: TrainingData | None = None,
    teacher: Teacher = "none",
) -> SinglePlan:
    """Load and check everything.

    `source_digest` is that of the source's content. `architecture` is cut out of it (default: the whole); without
    steps that is all. `data` are another plan's: what they have in common with this one's isn't loaded again. A
    `teacher` is for a network of which all weights are trained.

    Raises UserError if the source, the architecture or the data can't be used, and for LoRA without peft.
    """
    torch.set_num_threads(environment.threads)
    base = Checkpoint.open(source)
    chosen = dense(base.network) if architecture is None else architecture
    if chosen.quantization != "none":
        raise UserError(f"{source}: a network in INT8 can't be fine-tuned; name its architecture as it is without")
    cut = base.cut(chosen)
    network = replace(base, network=cut.shape, weights=dict(cut.weights()), refitted={})
    digests, origin = FileDigests(environment.cache), origin_of(source)
    if not settings.steps:
        recipe = SingleRecipe(base=source_digest, architecture=chosen, tuning=None)
        return SinglePlan(base, network, recipe, None, origin, digests)
    if isinstance(method, LoraMethod):
        require_peft()
        if not any(layer.projections for layer in cut.layers):
            raise UserError(f"{source}: the network has no linear layers, which LoRA trains; fine-tune all its weights")
    loaded = load_training_data(network, settings, environment, data)
    # LoRA holds weights as it computes with them, whatever the memory: gradients and states are of few numbers.
    taught_by = None if teacher == "none" else base.network
    memory = "full" if isinstance(method, LoraMethod) else memory_to_take(network, settings, loaded, taught_by)
    tuning = Tuning(data=loaded.digest, training=settings, method=method, memory=memory, teacher=teacher)
    recipe = SingleRecipe(base=source_digest, architecture=chosen, tuning=tuning)
    return SinglePlan(base, network, recipe, loaded, origin, digests)


def make_single(
    plan: SinglePlan,
    workspace: Path,
    directory: Path,
    report: Callable[[StepReport], None],
    rate_setting: str | None = None,
) -> SingleRecord:
    """Make the checkpoint `directory`, whole or not at all, resuming where an earlier call was interrupted.

    `workspace` holds what is unfinished and is removed at the end. A directory that holds just this network already is
    left as it is. Raises UserError where something else lies there and where nothing can be written, DivergedError
    where the loss is no longer finite, which names the learning rate by its setting (default: a study's).
    """
    if directory.exists():
        return _made_before(plan, workspace, directory)
    with writing(workspace):
        workspace.mkdir(parents=True, exist_ok=True)
    if plan.data is None or plan.recipe.tuning is None:
        record = _write(plan, plan.network.cut(), {}, workspace, directory)
    else:
        made, losses = _fine_tuned(plan, plan.data, plan.recipe.tuning, workspace, report, rate_setting)
        record = _write(plan, made, losses, workspace, directory)
    shutil.rmtree(workspace, ignore_errors=True)
    return record


def _made_before(plan: SinglePlan, workspace: Path, directory: Path) -> SingleRecord:
    """What a call made that was killed after it had put the checkpoint into its place, or one that ended."""
    taken = f"{directory}: exists already, and doesn't hold this network; name another directory"
    try:
        record = SingleRecord.read(directory)
    except UserError as error:
        raise UserError(taken) from error
    if record.plan != plan.digest:
        raise UserError(taken)
    shutil.rmtree(workspace, ignore_errors=True)
    return record


def _fine_tuned(
    plan: SinglePlan,
    data: TrainingData,
    tuning: Tuning,
    workspace: Path,
    report: Callable[[StepReport], None],
    rate_setting: str | None,
) -> tuple[Decoder, dict[str, float]]:
    """The network with its new weights, in its own dtypes, and the running means of its losses."""
    saved, settings, lora = workspace / STATE, tuning.training, isinstance(tuning.method, LoraMethod)
    trained = _trained(plan, tuning, load_state(saved, plan.digest))
    rate = rate_setting or ("fine_tuning.lora_learning_rate" if lora else "fine_tuning.learning_rate")
    log, memory = workspace / LOSSES, tuning.memory
    fine_tune(trained.gradients, data.examples, settings, trained.state, saved, log, report, rate, memory)
    dtypes = {name: tensor.dtype for name, tensor in plan.network.weights.items()}
    weights = {name: tensor.detach().to("cpu", dtypes[name]) for name, tensor in trained.weights().items()}
    return plan.network.cut(weights=weights), trained.state.losses


@dataclass(frozen=True)
class _Trained:
    """What is trained: its state, its gradients, and in the end all weights of the whole network."""

    state: TrainingState
    gradients: Gradients
    weights: Callable[[], Mapping[str, Tensor]]


def _trained(plan: SinglePlan, tuning: Tuning, resumed: TrainingState | None) -> _Trained:
    if isinstance(tuning.method, LoraMethod):
        return _by_lora(plan.network, tuning.method, tuning.training.seed, resumed, plan.digest)
    return _by_all_weights(plan, tuning, resumed)


def _by_all_weights(plan: SinglePlan, tuning: Tuning, resumed: TrainingState | None) -> _Trained:
    network, memory = plan.network, tuning.memory
    device, compute = compute_device(), computing_dtype(memory, torch_dtype(preferred_dtype()))
    held = held_dtype(memory)
    state = resumed or TrainingState.of_single(
        plan.digest, {name: tensor.to(device, held, copy=True) for name, tensor in network.weights.items()}
    )
    state.weights = {name: tensor.to(device) for name, tensor in state.weights.items()}

    def network_now() -> Decoder:
        return network.cut(weights=state.weights).map(lambda tensor: tensor.to(compute))

    # To the loop, who is taught is a sub-network of the teacher, and has its losses beside those of whole networks.
    kind: TrainedKind = "full" if tuning.teacher == "none" else "subnet"
    teacher = None if tuning.teacher == "none" else plan.base.cut().map(lambda tensor: tensor.to(device, compute))
    teaching = None if teacher is None else lambda: teacher
    teacher_only = tuning.teacher == "base only"
    gradients = gradients_of(lambda _: (kind, [network_now]), device, memory, teaching, teacher_only)
    return _Trained(state, gradients, lambda: state.weights)


def _by_lora(network: Checkpoint, method: LoraMethod, seed: int, resumed: TrainingState | None, plan: str) -> _Trained:
    device, compute = compute_device(), torch_dtype(preferred_dtype())
    adapted = adapt(network.cut().map(lambda tensor: tensor.to(device, compute)), method.rank, method.alpha, seed)
    state = resumed or TrainingState.of_single(plan, adapted.weights)
    adapted.load(state.weights)
    state.weights = adapted.weights
    now = adapted.network

    def weights() -> Mapping[str, Tensor]:
        """Merged in float32, whatever the steps computed in."""
        copied = network.cut().map(lambda tensor: tensor.to(torch.float32, copy=True))
        whole = adapt(copied, method.rank, method.alpha, seed)
        whole.load(state.weights)
        return dict(whole.merged().weights())

    return _Trained(state, gradients_of(lambda _: ("full", [lambda: now]), device), weights)


def _write(plan: SinglePlan, made: Decoder, losses: dict[str, float], workspace: Path, directory: Path) -> SingleRecord:
    """Write the checkpoint in the workspace, then put it in its place whole."""
    scratch, kept = workspace / "written", plan.recipe.architecture.layers
    lora = plan.recipe.tuning is not None and plan.recipe.tuning.method.method == "lora"

    def describe(written: Path) -> None:
        if (workspace / LOSSES).exists():
            shutil.copyfile(workspace / LOSSES, written / LOSSES)
        SingleRecord(
            base=str(plan.base.directory.absolute()),
            plan=plan.digest,
            parameters=parameters(made.shape),
            bytes=made.bytes,
            dtype=preferred_dtype(),
            kept=kept,
            versions=library_versions(*(["peft"] if lora else [])),
            files=plan.digests.content(written),
            recipe=plan.recipe,
            tokens=plan.tokens,
            data={} if plan.data is None else {"origin": plan.data.origin, "digest": plan.data.digest},
            losses=losses,
            source=plan.source,
        ).write(written)

    shutil.rmtree(scratch, ignore_errors=True)  # what a call left that was killed here
    save_network(made, plan.base, kept, scratch / "checkpoint", describe)
    with writing(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        (scratch / "checkpoint").rename(directory)
    record = SingleRecord.read(directory)
    for name, digest in record.files.items():
        plan.digests.remember(directory / name, digest)
    return record
