"""Make a super-network: order the base model's neurons, fine-tune it elastically, write it as an ordinary
checkpoint."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from services.trainer.examples import batches
from services.trainer.fine_tuning import StepReport, elastic, fine_tune
from services.trainer.training_data import TrainingData, load_training_data
from services.trainer.training_state import STATE, TrainingState, load_state
from shared.checkpoint_files import FileDigests, content_digest
from shared.digest import digest_json
from shared.environment import Environment
from shared.errors import UserError
from shared.files import writing
from shared.identity import TOKENS_VERSION
from shared.manifest import LOSSES, SupernetManifest, base_location, search_space, supernet_recipe
from shared.recipe_file import library_versions
from shared.settings import SearchSettings
from shared.supernet.checkpoint import Checkpoint, writing_checkpoint
from shared.supernet.device import compute_device, preferred_dtype, torch_dtype
from shared.supernet.order import drop_order, measure_importance, order_neurons
from shared.supernet.packing import Packed, pack
from shared.supernet.saving import copy_companions, save_weights
from shared.supernet.tree import Tree


@dataclass(frozen=True)
class TrainingPlan:
    """What a fine-tuning is going to do: all that it needs, loaded and checked before anything is computed."""

    settings: SearchSettings
    base: Checkpoint
    base_digest: str
    data: TrainingData
    digests: FileDigests

    @property
    def recipe(self) -> dict[str, Any]:
        """All that decides what comes out."""
        training = self.settings.training
        return supernet_recipe(self.base_digest, self.data.digest, self.settings.space, training)

    @property
    def digest(self) -> str:
        """Identity of the fine-tuning."""
        return digest_json(self.recipe)


def plan_training(
    settings: SearchSettings, base_directory: Path, environment: Environment, data: TrainingData | None = None
) -> TrainingPlan:
    """Load and check everything. `data` are another plan's: what they have in common with this one's isn't loaded
    again. Raises UserError if the model, the space or the data can't be used."""
    torch.set_num_threads(environment.threads)
    base = Checkpoint.open(base_directory)
    search_space(base.network, settings.space, drop_order(base.network.depth, None))  # refuses impossible choices
    if settings.space.depth_rule == "importance" and min(settings.space.depths) < 2:
        raise UserError(
            "space.depths: 1 layer is impossible with depth_rule importance, which keeps the first and the last layer"
        )
    loaded = load_training_data(base, settings.training, environment, data)
    digests = FileDigests(environment.cache)
    return TrainingPlan(settings, base, content_digest(digests.content(base_directory)), loaded, digests)


def check_unfinished(plan: TrainingPlan, workspace: Path) -> None:
    """Raise UserError if an interrupted fine-tuning in this workspace can't be read or is not this plan's."""
    load_state(workspace / STATE, plan.digest, mapped=True)


def make_supernet(
    plan: TrainingPlan, workspace: Path, directory: Path, report: Callable[[StepReport], None]
) -> SupernetManifest:
    """Make the super-network `directory`, resuming where an earlier call was interrupted. `workspace` holds what is
    unfinished, and is removed at the end."""
    state_file, device = workspace / STATE, compute_device()
    compute = torch_dtype(preferred_dtype())
    with writing(workspace):
        workspace.mkdir(parents=True, exist_ok=True)
    state = load_state(state_file, plan.digest)
    if state is None:
        state = _begin(plan, compute, device)
    state.weights = {name: tensor.to(device) for name, tensor in state.weights.items()}
    training = plan.settings.training
    space = search_space(plan.base.network, plan.settings.space, state.drop_order)
    networks = elastic(plan.base, space, state.weights, compute, training.seed)
    fine_tune(networks, plan.data.examples, training, state, state_file, workspace / LOSSES, report)
    manifest = _finish(plan, state, workspace, directory)
    shutil.rmtree(workspace, ignore_errors=True)
    return manifest


def _begin(plan: TrainingPlan, compute: torch.dtype, device: torch.device) -> TrainingState:
    settings = plan.settings
    network = plan.base.cut().map(lambda tensor: tensor.to(device, compute))
    importance = measure_importance(network, _calibration_batches(plan, device))
    influence = importance.layers if settings.space.depth_rule == "importance" else None
    weights = dict(plan.base.weights)
    if settings.training.neuron_order == "importance":
        weights = order_neurons(weights, plan.base.network, importance)
    return TrainingState(
        plan=plan.digest,
        step=0,
        drop_order=drop_order(plan.base.network.depth, influence),
        influence=influence,
        losses={},
        weights={name: tensor.float().clone() for name, tensor in weights.items()},
        optimizer={},
    )


def _calibration_batches(plan: TrainingPlan, device: torch.device) -> Iterator[Packed]:
    tokens = 0
    for batch in batches(plan.data.examples, plan.settings.training.tokens_per_step, plan.settings.training.seed):
        yield pack([Tree.plain(example.tokens) for example in batch], device)
        tokens += sum(len(example.tokens) for example in batch)
        if tokens >= plan.settings.training.calibration_tokens:
            return


def _finish(plan: TrainingPlan, state: TrainingState, workspace: Path, directory: Path) -> SupernetManifest:
    """Write the checkpoint in the workspace, then put it in its place whole."""
    scratch = workspace / "checkpoint"
    shutil.rmtree(scratch, ignore_errors=True)
    with writing_checkpoint(directory):
        scratch.mkdir()
        copy_companions(plan.base.directory, scratch, code=True)
        dtypes = {name: tensor.dtype for name, tensor in plan.base.weights.items()}
        save_weights({name: tensor.to("cpu", dtypes[name]) for name, tensor in state.weights.items()}, scratch)
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
        plan=plan.digest,
        data={"origin": plan.data.origin, "digest": plan.data.digest},
        losses=state.losses,
        versions=library_versions(),
        files=plan.digests.content(scratch),
    )
    manifest.write(scratch)
    with writing(directory):
        shutil.rmtree(directory, ignore_errors=True)
        scratch.rename(directory)
    for name, digest in manifest.files.items():
        plan.digests.remember(directory / name, digest)
    return manifest
