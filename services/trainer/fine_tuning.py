"""The fine-tuning, in one loop: of a super-network, which is InstaTune (arXiv 2308.15609) as LLaMA-NAS (arXiv
2405.18377) uses it, and of single networks."""

import itertools
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from services.trainer.examples import Example, batches
from services.trainer.training_state import StateInterval, TrainingState, save_state
from shared.architecture import dense
from shared.errors import UserError
from shared.files import writing
from shared.settings import TrainingSettings
from shared.space import SearchSpace
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from shared.supernet.packing import pack
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


def response_loss(
    network_logits: Callable[[Tensor], Tensor], states: Tensor, starts: Sequence[int], batch: Sequence[Example]
) -> Tensor:
    """Mean cross-entropy of the response tokens; the language head is applied only where they are predicted."""
    places = [start + index - 1 for start, example in zip(starts, batch, strict=True) for index in _response(example)]
    targets = [example.tokens[index] for example in batch for index in _response(example)]
    logits = network_logits(states[torch.tensor(places, device=states.device)])
    return F.cross_entropy(logits.float(), torch.tensor(targets, device=states.device))


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
    saved: Path,
    log_file: Path,
    report: Callable[[StepReport], None],
    rate_setting: str = "training.learning_rate",
) -> None:
    """Train `state.weights` (float32, updated in place), of which the networks are made, from `state.step` to the last
    step. The state is saved in the directory `saved` from time to time.

    What happens in a step depends only on the seed and its number, so a fine-tuning that was interrupted has the same
    outcome as an undisturbed one. Raises DivergedError, which names the learning rate by its setting, where the loss or
    its gradient is no longer finite.
    """
    weights = {name: tensor.requires_grad_() for name, tensor in state.weights.items()}
    optimizer = torch.optim.AdamW(
        weights.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.95), fused=True
    )
    if state.optimizer:
        optimizer.load_state_dict(state.optimizer)
    interval = StateInterval(settings.checkpoint_every_seconds)
    remaining = itertools.islice(batches(examples, settings.tokens_per_step, settings.seed), state.step, settings.steps)
    for step, batch in enumerate(remaining, start=state.step):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings)
        kind, network = network_of_step(step)
        packed = pack([Tree.plain(example.tokens) for example in batch], next(iter(weights.values())).device)
        loss = response_loss(network.logits, network.hidden(packed), packed.starts, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(weights.values(), settings.clip_norm)
        if not (loss.isfinite() and norm.isfinite()):
            reason = f"{rate_setting}: the loss is not finite at step {step}"
            raise DivergedError(f"{reason}; lower it and remove {saved}")
        optimizer.step()
        _note(state, step, kind, loss.item())
        _log(log_file, step, kind, loss.item(), float(norm), learning_rate(step, settings), len(packed.tokens))
        report(StepReport(step + 1, settings.steps, state.losses.get("full"), state.losses.get("subnet")))
        if interval.due:
            with interval.waiting():
                state.optimizer = optimizer.state_dict()
                save_state(saved, state)


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
