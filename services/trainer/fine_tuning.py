"""The fine-tuning, in one loop: of a super-network, which is InstaTune (arXiv 2308.15609) as LLaMA-NAS (arXiv
2405.18377) uses it, and of single networks."""

import itertools
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from services.trainer.distributed.processes import ALONE, Processes
from services.trainer.examples import Example, batches
from services.trainer.step_division import response, shares
from services.trainer.training_state import StateInterval, TrainingState, save_state
from shared.architecture import Architecture, dense
from shared.errors import UserError
from shared.files import writing
from shared.network.shape import NetworkShape
from shared.settings import TrainingSettings
from shared.space import SearchSpace
from shared.supernet.decoder import Decoder
from shared.supernet.device import peak_memory
from shared.supernet.packing import Packed, pack
from shared.supernet.tree import Tree

LOSS_MEMORY = 0.95
"""Decay of the running means of the losses."""

TrainedKind = Literal["full", "subnet"]
ArchitecturesOfStep = Callable[[int], tuple[TrainedKind, Sequence[Architecture]]]
"""The networks that a step trains, each on its part of the examples."""
NetworksOfStep = Callable[[int], tuple[TrainedKind, Sequence[Callable[[], Decoder]]]]
"""The same networks, each to be cut out of the weights as they are when it is called, in the dtype that computes."""


@dataclass(frozen=True)
class StepLoss:
    """What a step was trained on: kind of the network, mean loss of all response tokens, number of all tokens."""

    kind: TrainedKind
    loss: Tensor
    tokens: int


Gradients = Callable[[int, Sequence[Example]], StepLoss]
"""Computes the gradients of all weights in a step, of its examples. A weight that has no influence gets none."""


class DivergedError(UserError):
    """The loss, or its gradient, is no longer finite: with other settings it may stay so."""


@dataclass(frozen=True)
class StepReport:
    """Progress after a step: running mean losses of the full network and of the sub-networks (None: no step yet), the
    step's tokens, and the most memory that was held so far, in bytes (see `peak_memory`)."""

    step: int
    steps: int
    full_loss: float | None
    subnet_loss: float | None
    tokens: int
    memory: int


def response_loss(network: Decoder, packed: Packed, batch: Sequence[Example]) -> Tensor:
    """Mean cross-entropy of the response tokens of a packed batch; the language head is applied only where they are
    predicted."""
    starts = zip(packed.starts, batch, strict=True)
    places = [start + index - 1 for start, example in starts for index in response(example)]
    targets = [example.tokens[index] for example in batch for index in response(example)]
    states = network.hidden(packed)
    logits = network.logits(states[torch.tensor(places, device=states.device)])
    return F.cross_entropy(logits.float(), torch.tensor(targets, device=states.device))


def elastic(network: NetworkShape, space: SearchSpace, settings: TrainingSettings) -> ArchitecturesOfStep:
    """Of a super-network: even steps train the full network, odd ones uniformly sampled sub-networks."""

    def of_step(step: int) -> tuple[TrainedKind, Sequence[Architecture]]:
        if step % 2 == 0:
            return "full", [dense(network)]
        seeds = [
            f"{settings.seed}/{step}",
            *(f"{settings.seed}/{step}/{n}" for n in range(1, settings.subnets_per_step)),
        ]
        return "subnet", [space.sample(random.Random(seed)) for seed in seeds]

    return of_step


def gradients_of(networks_of_step: NetworksOfStep, device: torch.device) -> Gradients:
    """Of one process: networks are cut one after the other, each when its turn comes."""

    def of_step(step: int, batch: Sequence[Example]) -> StepLoss:
        kind, networks = networks_of_step(step)
        divided = [share for (share,) in shares(batch, len(networks), processes=1)]
        everything, total = sum(share.response_tokens for share in divided), torch.zeros(())
        for share in divided:
            if not share.examples:
                continue
            network = networks[share.network]()
            packed = pack([Tree.plain(example.tokens) for example in share.examples], device)
            loss = response_loss(network, packed, share.examples)
            loss = loss * (share.response_tokens / everything)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach().cpu()
        return StepLoss(kind, total, sum(len(example.tokens) for example in batch))

    return of_step


def fine_tune(
    gradients: Gradients,
    examples: Sequence[Example],
    settings: TrainingSettings,
    state: TrainingState,
    saved: Path,
    log_file: Path,
    report: Callable[[StepReport], None],
    rate_setting: str = "training.learning_rate",
    processes: Processes = ALONE,
) -> None:
    """Train `state.weights` (float32, updated in place), whose `gradients` are computed, from `state.step` to the last
    step. The state is saved in the directory `saved` from time to time.

    What happens in a step depends only on the seed and its number, so a fine-tuning that was interrupted has the same
    outcome as an undisturbed one. Raises DivergedError, which names the learning rate by its setting, where the loss or
    its gradient is no longer finite.
    """
    weights = {name: processes.local(tensor.requires_grad_()) for name, tensor in state.weights.items()}
    optimizer = torch.optim.AdamW(
        weights.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.95), fused=True
    )
    _restore(optimizer, weights, state.optimizer)
    state.optimizer = {}  # as it was read; the optimiser may have it on another device
    interval = StateInterval(settings.checkpoint_every_seconds)
    remaining = itertools.islice(batches(examples, settings.tokens_per_step, settings.seed), state.step, settings.steps)
    for step, batch in enumerate(remaining, start=state.step):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings)
        for tensor in state.weights.values():
            tensor.grad = None
        trained = gradients(step, batch)
        for name, tensor in state.weights.items():
            weights[name].grad = None if tensor.grad is None else processes.local(tensor.grad)
        found = [tensor.grad for tensor in weights.values() if tensor.grad is not None]
        norm = processes.joint_norm(torch.nn.utils.get_total_norm(found))
        torch.nn.utils.clip_grads_with_norm_(weights.values(), settings.clip_norm, norm)
        if not (trained.loss.isfinite() and norm.isfinite()):
            reason = f"{rate_setting}: the loss is not finite at step {step}"
            raise DivergedError(f"{reason}; lower it and remove {saved}")
        optimizer.step()
        loss = trained.loss.item()
        _note(state, step, trained.kind, loss)
        if processes.first:
            _log(log_file, step, trained.kind, loss, float(norm), learning_rate(step, settings), trained.tokens)
            losses = (state.losses.get("full"), state.losses.get("subnet"))
            report(StepReport(step + 1, settings.steps, *losses, trained.tokens, peak_memory()))
        if processes.agree(interval.due):
            with interval.waiting():
                state.optimizer = _named(optimizer, weights)
                save_state(saved, state, processes)


def _named(optimizer: torch.optim.Optimizer, weights: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """What an optimiser keeps of each weight that it has updated, by the weights' names."""
    return {name: optimizer.state[weight] for name, weight in weights.items() if weight in optimizer.state}


def _restore(
    optimizer: torch.optim.Optimizer, weights: Mapping[str, Tensor], named: Mapping[str, dict[str, Any]]
) -> None:
    state = {number: named[name] for number, name in enumerate(weights) if name in named}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Linear warm-up, then a half cosine down to a tenth."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    progress = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return settings.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))


def _note(state: TrainingState, step: int, kind: str, loss: float) -> None:
    past = state.losses.get(kind, loss)
    state.losses[kind] = LOSS_MEMORY * past + (1 - LOSS_MEMORY) * loss
    state.step = step + 1


def _log(path: Path, step: int, kind: str, loss: float, norm: float, rate: float, tokens: int) -> None:
    line = {"step": step, "network": kind, "loss": loss, "gradient_norm": norm, "learning_rate": rate, "tokens": tokens}
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
