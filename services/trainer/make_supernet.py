"""Make a super-network: order the base model's neurons, fine-tune it elastically, write it as an ordinary
checkpoint."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from services.trainer.distributed.processes import ALONE, Processes
from services.trainer.examples import calibration_batches
from services.trainer.fine_tuning import (
    ArchitecturesOfStep,
    Gradients,
    NetworksOfStep,
    StepReport,
    TrainedKind,
    elastic,
    fine_tune,
    gradients_of,
)
from services.trainer.layers_in_turn import LayersInTurn
from services.trainer.memory_choice import memory_to_take, record_memory
from services.trainer.ordering import Ordering, measure_ordering
from services.trainer.refit import refit
from services.trainer.training_data import TrainingData, load_training_data
from services.trainer.training_state import STATE, TrainingState, check_state, is_saved, load_state
from services.trainer.weight_updates import computing_dtype, held_dtype
from shared.architecture import Architecture, dense
from shared.checkpoint_files import REFITTED, FileDigests, content_digest
from shared.digest import digest_json
from shared.environment import Environment
from shared.errors import UserError
from shared.files import writing
from shared.identity import TOKENS_VERSION
from shared.manifest import LOSSES, MANIFEST, SupernetManifest, base_location, search_space, supernet_recipe
from shared.memory_needs import recipes_for
from shared.recipe_file import library_versions
from shared.settings import MemoryRecipe, SearchSettings
from shared.supernet.checkpoint import Checkpoint, cut_layer, writing_checkpoint
from shared.supernet.decoder import Decoder, Layer
from shared.supernet.device import compute_device, preferred_dtype, torch_dtype
from shared.supernet.order import drop_order, order_neurons
from shared.supernet.packing import Packed, pack
from shared.supernet.saving import copy_companions, save_weights
from shared.supernet.tree import Tree

CHECKPOINT = "checkpoint"
"""The directory, in what is unfinished, of what is going to be the super-network."""


@dataclass(frozen=True)
class TrainingPlan:
    """What a fine-tuning is going to do: all that it needs, loaded and checked before anything is computed. `memory` is
    the recipe that it takes, decided for this machine where `training.memory` is auto."""

    settings: SearchSettings
    base: Checkpoint
    base_digest: str
    data: TrainingData
    digests: FileDigests
    memory: MemoryRecipe = "full"

    @property
    def recipe(self) -> dict[str, Any]:
        """All that decides what comes out."""
        training = self.settings.training
        space, data = self.settings.space, self.data.digest
        return supernet_recipe(self.base_digest, data, space, training, memory=self.memory)

    @property
    def digest(self) -> str:
        """Identity of the fine-tuning."""
        return digest_json(self.recipe)

    @property
    def refitted_widths(self) -> tuple[int, ...]:
        """Widths for which down projections are refitted: those that are narrower than some layer's MLP."""
        if not self.settings.training.refit:
            return ()
        most = max(self.base.network.mlp_widths)
        return tuple(width for width in self.settings.space.mlp_widths if width < most)

    @property
    def choices(self) -> "list[TrainingPlan]":
        """The plans that `training.memory` leaves to choose from; without steps memory makes no difference."""
        asked = self.settings.training.memory
        if asked != "auto" or not self.settings.training.steps:
            return [self]
        return [replace(self, memory=recipe) for recipe in recipes_for(self.settings.training)]


def plan_training(
    settings: SearchSettings, base_directory: Path, environment: Environment, data: TrainingData | None = None
) -> TrainingPlan:
    """Load and check everything. `data` are another plan's: what they have in common with this one's isn't loaded
    again. Raises UserError if the model, the space or the data can't be used."""
    torch.set_num_threads(environment.threads)
    base = Checkpoint.open(base_directory)
    search_space(base.network, settings.space, drop_order(base.network.depth, None))  # refuses impossible choices
    keeping = [rule for rule in settings.space.depth_rules if rule != "first"]
    if keeping and min(settings.space.depths) < 2:
        raise UserError(
            f"space.depths: 1 layer is impossible with depth_rule {keeping[0]}, which keeps the first and the last "
            "layer"
        )
    if settings.training.memory not in ("auto", *recipes_for(settings.training)):
        raise UserError(
            "training.subnets_per_step: sub-networks that share a step need its gradients, which training.memory "
            "leanest doesn't keep; set it to 1, or training.memory to lean"
        )
    loaded = load_training_data(base, settings.training, environment, data)
    digests = FileDigests(environment.cache)
    base_digest = content_digest(digests.content(base_directory))
    return TrainingPlan(settings, base, base_digest, loaded, digests, memory_to_take(base, settings.training, loaded))


def check_unfinished(plan: TrainingPlan, workspace: Path) -> None:
    """Raise UserError if an interrupted fine-tuning in this workspace can't be read or is not this plan's."""
    check_state(workspace / STATE, plan.digest)


def make_supernet(
    plan: TrainingPlan,
    workspace: Path,
    directory: Path,
    report: Callable[[StepReport], None],
    processes: Processes = ALONE,
    refitted: Callable[[int, int], None] = lambda layers, of: None,
    ordered: Callable[[int, int], None] = lambda layers, of: None,
) -> SupernetManifest | None:
    """Make the super-network `directory`, resuming where an earlier call was interrupted. `workspace` holds what is
    unfinished, and is removed at the end. `report` is called after each step, `refitted` for each layer when down
    projections are refitted, `ordered` for each that is found by `depth_rule: divergence`, both with the layers that
    are done and of how many. Of several processes all call this; the first one has the manifest then."""
    if processes.first:
        with writing(workspace):
            workspace.mkdir(parents=True, exist_ok=True)
            record_memory(workspace, plan.memory)
    processes.wait()
    trained = processes.agree(_trained_before(plan, workspace) if processes.first else None)
    if trained is None:
        if plan.settings.training.steps:
            trained = _trained_now(plan, workspace, directory, report, ordered, processes)
        elif processes.first:  # nothing to divide: the first one orders and writes
            trained = _trained_now(plan, workspace, directory, report, ordered, ALONE)
    made = None
    if processes.first and trained is not None:
        made = _refitted(plan, trained, workspace, directory, refitted) if plan.refitted_widths else trained
        _put_in_place(plan, made, workspace, directory)
        shutil.rmtree(workspace, ignore_errors=True)
    processes.wait()  # torchrun, once its own processes have ended, doesn't wait long for those of other machines
    return made


def _trained_before(plan: TrainingPlan, workspace: Path) -> SupernetManifest | None:
    """The checkpoint that an earlier call has written in the workspace, which was interrupted while it refitted; None
    if there is none, or another one."""
    scratch = workspace / CHECKPOINT
    if not (scratch / MANIFEST).is_file():
        return None
    try:
        manifest = SupernetManifest.read(scratch)
    except UserError:
        return None
    files = {name: digest for name, digest in plan.digests.content(scratch).items() if name in manifest.files}
    return manifest if manifest.plan == plan.digest and manifest.files == files else None


def _trained_now(
    plan: TrainingPlan,
    workspace: Path,
    directory: Path,
    report: Callable[[StepReport], None],
    ordered: Callable[[int, int], None],
    processes: Processes,
) -> SupernetManifest | None:
    """The same after a fine-tuning, by all processes that have a part in it; of the first one."""
    saved, training = workspace / STATE, plan.settings.training
    state, gradients = _trained(plan, saved, ordered, processes)
    log_file = workspace / LOSSES
    if training.steps:
        examples = plan.data.examples
        fine_tune(
            gradients, examples, training, state, saved, log_file, report, memory=plan.memory, processes=processes
        )
    # One by one, as there may be no room for both.
    trained = state.weights
    state.weights = {
        name: _on_first(trained.pop(name), tensor.dtype, processes) for name, tensor in plan.base.weights.items()
    }
    if not processes.first:
        return None
    return _written(plan, state, workspace, directory)


def _trained(
    plan: TrainingPlan, saved: Path, ordered: Callable[[int, int], None], processes: Processes
) -> tuple[TrainingState, Gradients]:
    """The state to go on from, and what computes the gradients of its weights."""
    if processes.size == 1:
        return _trained_alone(plan, saved, ordered)
    return _trained_together(plan, saved, ordered, processes)


def _trained_alone(
    plan: TrainingPlan, saved: Path, ordered: Callable[[int, int], None]
) -> tuple[TrainingState, Gradients]:
    device, compute = compute_device(), computing_dtype(plan.memory, torch_dtype(preferred_dtype()))
    state = load_state(saved, plan.digest)
    if state is None:
        ordering = _measure(plan, compute, ordered)
        weights = dict(_ordered(plan, ordering))
        if plan.settings.training.steps:
            held = held_dtype(plan.memory)
            weights = {name: tensor.to(device, held, copy=True) for name, tensor in weights.items()}
        state = _begin(plan, ordering, weights)
    state.weights = {name: tensor.to(device) for name, tensor in state.weights.items()}
    cut = cutting(plan.base, state.weights, compute)
    whole, teacher_only = _teaching(plan)
    networks, teacher = cut_out(cut, _architectures(plan, state)), None if whole is None else partial(cut, whole)
    return state, gradients_of(networks, device, plan.memory, teacher, teacher_only)


def _trained_together(
    plan: TrainingPlan, saved: Path, ordered: Callable[[int, int], None], processes: Processes
) -> tuple[TrainingState, Gradients]:
    from services.trainer.distributed.sharded_network import ShardedNetwork  # loads much of torch besides

    compute = computing_dtype(plan.memory, torch_dtype(preferred_dtype()))
    begun = processes.agree(is_saved(saved))
    measures = processes.first and not begun
    ordering: Ordering | None = processes.agree(_measure(plan, compute, ordered) if measures else None)
    network = ShardedNetwork(plan.base, _ordered(plan, ordering), plan.memory, compute, processes, *_teaching(plan))
    if ordering is not None:
        state: TrainingState | None = _begin(plan, ordering, network.weights)
    else:
        state = load_state(saved, plan.digest, network.weights, processes)
    if state is None:
        raise UserError(f"{saved}: was removed meanwhile; run the same command again")
    return state, partial(network.gradients, _architectures(plan, state))


def _architectures(plan: TrainingPlan, state: TrainingState) -> ArchitecturesOfStep:
    network, settings = plan.base.network, plan.settings
    return elastic(network, search_space(network, settings.space, state.drop_order), settings.training)


def _teaching(plan: TrainingPlan) -> tuple[Architecture | None, bool]:
    """The network whose predictions teach sub-networks, and whether nothing else does."""
    way = plan.settings.training.distillation
    return None if way == "none" else dense(plan.base.network), way == "all"


def _measure(plan: TrainingPlan, compute: torch.dtype, ordered: Callable[[int, int], None]) -> Ordering:
    return measure_ordering(plan.base, plan.data.examples, plan.settings, compute, compute_device(), ordered)


def _ordered(plan: TrainingPlan, ordering: Ordering | None) -> Mapping[str, Tensor]:
    if ordering is None or ordering.importance is None:
        return plan.base.weights
    return order_neurons(plan.base.weights, plan.base.network, ordering.importance)


def _begin(plan: TrainingPlan, ordering: Ordering, weights: dict[str, Tensor]) -> TrainingState:
    """The first state."""
    return TrainingState(plan.digest, 0, ordering.drop_order, ordering.influence, {}, weights, optimizer={})


Cutting = Callable[[Architecture], Decoder]
"""Cuts a network out of weights as they are when it is called."""


def cutting(base: Checkpoint, weights: Mapping[str, Tensor], compute: torch.dtype) -> Cutting:
    """Out of weights of a checkpoint's names, in the dtype that computes; a layer is cut when the pass comes to it."""

    def cut(architecture: Architecture) -> Decoder:
        network = base.cut(architecture, weights)

        def layer(place: int) -> Layer:
            own = cut_layer(network.shape.family, network.shape.layers[place], architecture.layers[place], weights)
            return own.map(lambda tensor: tensor.to(compute))

        layers = LayersInTurn(len(network.layers), layer)
        return replace(replace(network, layers=()).map(lambda tensor: tensor.to(compute)), layers=layers)

    return cut


def cut_out(cut: Cutting, of_step: ArchitecturesOfStep) -> NetworksOfStep:
    """The networks of each step, to be cut."""

    def networks(step: int) -> tuple[TrainedKind, list[Callable[[], Decoder]]]:
        kind, architectures = of_step(step)
        return kind, [partial(cut, architecture) for architecture in architectures]

    return networks


def _on_first(tensor: Tensor, dtype: torch.dtype, processes: Processes) -> Tensor:
    """A whole weight as it is written, in the memory of the first process alone."""
    whole = processes.whole(tensor).detach()
    return whole.to("cpu", dtype) if processes.first else whole.new_empty(0)


def _calibration_text(plan: TrainingPlan, device: torch.device) -> Iterator[Packed]:
    for batch in calibration_batches(plan.data.examples, plan.settings.training):
        yield pack([Tree.plain(example.tokens) for example in batch], device)


def _written(plan: TrainingPlan, state: TrainingState, workspace: Path, directory: Path) -> SupernetManifest:
    """Write the checkpoint in the workspace. Its manifest comes last: what has one is whole."""
    scratch = workspace / CHECKPOINT
    for former in (scratch, workspace / REFITTED):
        shutil.rmtree(former, ignore_errors=True)
    with writing_checkpoint(directory):
        scratch.mkdir()
        copy_companions(plan.base.directory, scratch, code=True)
        save_weights(state.weights, scratch)
        if (workspace / LOSSES).exists():
            shutil.copyfile(workspace / LOSSES, scratch / LOSSES)
    manifest = SupernetManifest(
        base=base_location(plan.settings.model),
        base_digest=plan.base_digest,
        dtype=preferred_dtype(),
        space=plan.settings.space,
        drop_order=state.drop_order,
        influence=state.influence,
        training=plan.settings.training,
        tokens_version=TOKENS_VERSION,
        memory=plan.memory,
        plan=plan.digest,
        data={"origin": plan.data.origin, "digest": plan.data.digest},
        losses=state.losses,
        versions=library_versions(),
        files=plan.digests.content(scratch),
    )
    manifest.write(scratch)
    return manifest


def _refitted(
    plan: TrainingPlan,
    trained: SupernetManifest,
    workspace: Path,
    directory: Path,
    progressed: Callable[[int, int], None],
) -> SupernetManifest:
    """Add refitted projections to the trained checkpoint in the workspace. They lie beside it until those of all layers
    are there; those that an interrupted call has left are of the same weights."""
    scratch = workspace / CHECKPOINT
    device, compute = compute_device(), computing_dtype(plan.memory, torch_dtype(preferred_dtype()))
    if not (scratch / REFITTED).is_dir():
        text = list(_calibration_text(plan, device))
        with writing_checkpoint(directory):
            refit(Checkpoint.open(scratch), plan.refitted_widths, text, compute, workspace, progressed)
            (workspace / REFITTED).rename(scratch / REFITTED)
    manifest = trained.model_copy(update={"files": plan.digests.content(scratch)})
    manifest.write(scratch)
    return manifest


def _put_in_place(plan: TrainingPlan, manifest: SupernetManifest, workspace: Path, directory: Path) -> None:
    with writing(directory):
        shutil.rmtree(directory, ignore_errors=True)
        (workspace / CHECKPOINT).rename(directory)
    for name, digest in manifest.files.items():
        plan.digests.remember(directory / name, digest)
