"""The fine-tuning, in one loop: of a super-network, which is InstaTune (arXiv 2308.15609) as LLaMA-NAS (arXiv
2405.18377) uses it, and of single networks."""

import itertools
import json
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from services.trainer.examples import Example, batches
from services.trainer.training_state import TrainingState, save_state
from services.trainer.weight_updates import loss_of_targets, weight_updates
from shared.architecture import dense
from shared.errors import UserError
from shared.files import writing
from shared.settings import MemoryRecipe, TrainingSettings
from shared.space import SearchSpace
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from shared.supernet.packing import Packed, pack
from shared.supernet.tree import Tree

LOSS_MEMORY = 0.95
"""Decay of the running means of the losses."""

TrainedKind = Literal["full", "subnet"]
NetworkOfStep = Callable[[int], tuple[TrainedKind, Decoder]]
"""The network that a step trains, as the weights are now, in the dtype that computes."""


class DivergedError(UserError):
    """The loss, or its gradient, is no longer finite: with other settings it may stay so."""


@dataclass(frozen=True)
class StepReport:
    """Progress after a step: running mean losses of the full network and of the sub-networks (None: no step yet)."""

    step: int
    steps: int
    full_loss: float | None
    subnet_loss: float | None


def response_loss(network: Decoder, packed: Packed, batch: Sequence[Example], memory: MemoryRecipe = "full") -> Tensor:
    """Mean cross-entropy of the response tokens of a packed batch; the language head is applied only where they are
    predicted."""
    starts = zip(packed.starts, batch, strict=True)
    places = [start + index - 1 for start, example in starts for index in _response(example)]
    targets = [example.tokens[index] for example in batch for index in _response(example)]
    return loss_of_targets(memory)(network, packed, places, targets)


def elastic(
    base: Checkpoint, space: SearchSpace, weights: Mapping[str, Tensor], compute: torch.dtype, seed: int
) -> NetworkOfStep:
    """Of a super-network: even steps train the full network, odd ones a uniformly sampled sub-network."""

    def of_step(step: int) -> tuple[TrainedKind, Decoder]:
        kind: TrainedKind = "full" if step % 2 == 0 else "subnet"
        chosen = dense(base.network) if kind == "full" else space.sample(random.Random(f"{seed}/{step}"))
        return kind, base.cut(chosen, weights).map(lambda tensor: tensor.to(compute))

    return of_step


def fine_tune(
    network_of_step: NetworkOfStep,
    examples: Sequence[Example],
    settings: TrainingSettings,
    state: TrainingState,
    state_file: Path,
    log_file: Path,
    report: Callable[[StepReport], None],
    rate_setting: str = "training.learning_rate",
    memory: MemoryRecipe = "full",
) -> None:
    """Train `state.weights` (in the dtype in which the recipe holds them, updated in place), of which the networks are
    made, from `state.step` to the last step.

    What happens in a step depends only on the seed and its number, so a fine-tuning that was interrupted has the same
    outcome as an undisturbed one. Raises DivergedError, which names the learning rate by its setting, where the loss or
    its gradient is no longer finite.
    """
    weights = {name: tensor.requires_grad_() for name, tensor in state.weights.items()}
    updates = weight_updates(memory, weights, settings, state.optimizer)
    state.optimizer = {}
    device = next(iter(weights.values())).device
    saved = time.monotonic()
    remaining = itertools.islice(batches(examples, settings.tokens_per_step, settings.seed), state.step, settings.steps)
    for step, batch in enumerate(remaining, start=state.step):
        updates.begin(step, learning_rate(step, settings))
        packed = pack([Tree.plain(example.tokens) for example in batch], device)
        kind, loss = _loss_of_step(network_of_step, step, packed, batch, memory)
        # Before weights are updated, which some recipes do in the backward pass.
        finite = bool(loss.isfinite())
        if finite:
            loss.backward()  # type: ignore[no-untyped-call]
        norm = updates.gradient_norm() if finite else loss
        if not (finite and norm.isfinite()):
            reason = f"{rate_setting}: the loss is not finite at step {step}"
            raise DivergedError(f"{reason}; lower it and remove {state_file}")
        updates.finish()
        _note(state, step, kind, loss.item())
        _log(log_file, step, kind, loss.item(), float(norm), learning_rate(step, settings), len(packed.tokens))
        report(StepReport(step + 1, settings.steps, state.losses.get("full"), state.losses.get("subnet")))
        if time.monotonic() - saved > settings.checkpoint_every_seconds:
            state.optimizer = updates.state_dict()
            save_state(state_file, state)
            saved = time.monotonic()
    updates.close()
    state.optimizer = {}


def _loss_of_step(
    network_of_step: NetworkOfStep, step: int, packed: Packed, batch: Sequence[Example], memory: MemoryRecipe
) -> tuple[TrainedKind, Tensor]:
    """Apart, so that nothing but the graph holds the network: what the backward pass is through with goes."""
    kind, network = network_of_step(step)
    return kind, response_loss(network, packed, batch, memory)


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Linear warm-up, then a half cosine down to a tenth."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    progress = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return settings.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))


def _response(example: Example) -> range:
    return range(max(1, example.response), len(example.tokens))


def _note(state: TrainingState, step: int, kind: str, loss: float) -> None:
    past = state.losses.get(kind, loss)
    state.losses[kind] = LOSS_MEMORY * past + (1 - LOSS_MEMORY) * loss
    state.step = step + 1


def _log(path: Path, step: int, kind: str, loss: float, norm: float, rate: float, tokens: int) -> None:
    line = {"step": step, "network": kind, "loss": loss, "gradient_norm": norm, "learning_rate": rate, "tokens": tokens}
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
