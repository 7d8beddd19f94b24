"""The fine-tuning, in one loop: of a super-network, which is InstaTune (arXiv 2308.15609) as LLaMA-NAS (arXiv
2405.18377) uses it, and of single networks."""

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from services.trainer.chunked_loss import Taught
from services.trainer.distributed.processes import ALONE, Processes
from services.trainer.examples import Example, batches
from services.trainer.step_division import learnt, shares
from services.trainer.subnet_sampling import subnets_of_step
from services.trainer.training_state import StateInterval, TrainingState, save_state
from services.trainer.weight_updates import loss_of_targets, weight_updates
from shared.architecture import Architecture, dense
from shared.errors import UserError
from shared.files import writing
from shared.network.shape import NetworkShape
from shared.settings import MemoryRecipe, TrainingSettings
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
    """What a step was trained on: kind of the network, mean loss of all tokens that are learnt (with a teacher's part,
    where there is one), number of all tokens."""

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


def response_loss(
    network: Decoder,
    packed: Packed,
    batch: Sequence[Example],
    memory: MemoryRecipe = "full",
    taught: Taught | None = None,
) -> Tensor:
    """Mean loss of the response tokens of a packed batch; the language head is applied only where they are predicted.
    It is their cross-entropy or, where `taught_by` a teacher, partly the divergence from what that predicts; where the
    teacher teaches alone, that divergence, of all tokens."""
    teacher_only = taught is not None and taught.teacher_only
    targets = [example.tokens[index] for example in batch for index in learnt(example, teacher_only)]
    return loss_of_targets(memory)(network, packed, predicting_places(packed, batch, teacher_only), targets, taught)


@torch.no_grad()
def taught_by(teacher: Decoder, packed: Packed, batch: Sequence[Example], teacher_only: bool = False) -> Taught:
    """What a network predicts at the response tokens of a packed batch; at all tokens, if that is all that is
    learnt (`teacher_only`)."""
    states = teacher.hidden(packed)
    places = torch.tensor(predicting_places(packed, batch, teacher_only), device=states.device)
    return Taught(states[places], teacher.head, teacher_only)


def predicting_places(packed: Packed, batch: Sequence[Example], teacher_only: bool = False) -> list[int]:
    """Where in a packed batch the tokens are predicted that are `learnt`: one before each."""
    starts = zip(packed.starts, batch, strict=True)
    return [start + index - 1 for start, example in starts for index in learnt(example, teacher_only)]


def elastic(network: NetworkShape, space: SearchSpace, settings: TrainingSettings) -> ArchitecturesOfStep:
    """Of a super-network: every `full_every`-th step trains the full network, beginning with the first, and the others
    sub-networks, drawn as settings say."""
    subnets = subnets_of_step(space, settings)

    def of_step(step: int) -> tuple[TrainedKind, Sequence[Architecture]]:
        return ("subnet", subnets(step)) if step % settings.full_every else ("full", [dense(network)])

    return of_step


def gradients_of(
    networks_of_step: NetworksOfStep,
    device: torch.device,
    memory: MemoryRecipe = "full",
    teacher: Callable[[], Decoder] | None = None,
    teacher_only: bool = False,
) -> Gradients:
    """Of one process: networks are cut one after the other, each when its turn comes. What sub-networks are to predict
    is also what the `teacher` does, if there is one, with the weights as they are in this step; or, with
    `teacher_only`, nothing but that."""

    def loss_of(cut: Callable[[], Decoder], examples: Sequence[Example], taught: bool) -> Tensor:
        """Apart, so that nothing but the graph holds the network: what the backward pass is through with goes."""
        packed = pack([Tree.plain(example.tokens) for example in examples], device)
        predicted = taught_by(teacher(), packed, examples, teacher_only) if taught and teacher is not None else None
        return response_loss(cut(), packed, examples, memory, predicted)

    def of_step(step: int, batch: Sequence[Example]) -> StepLoss:
        kind, networks = networks_of_step(step)
        divided = [share for (share,) in shares(batch, len(networks), processes=1)]
        by_teacher = teacher_only and kind == "subnet"
        everything, total = sum(share.learnt_tokens(by_teacher) for share in divided), torch.zeros(())
        for share in divided:
            if not share.examples:
                continue
            loss = loss_of(networks[share.network], share.examples, kind == "subnet")
            loss = loss * (share.learnt_tokens(by_teacher) / everything)
            total += loss.detach().cpu()
            if not total.isfinite():
                break  # before weights are updated, which some recipes do in the backward pass
            loss.backward()  # type: ignore[no-untyped-call]
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
    memory: MemoryRecipe = "full",
    processes: Processes = ALONE,
) -> None:
    """Train `state.weights` (in the dtype in which the recipe holds them, updated in place), whose `gradients` are
    computed, from `state.step` to the last step. The state is saved in the directory `saved` from time to time.

    What happens in a step depends only on the seed and its number, so a fine-tuning that was interrupted has the same
    outcome as an undisturbed one. Raises DivergedError, which names the learning rate by its setting, where the loss or
    its gradient is no longer finite.
    """
    weights = {name: tensor.requires_grad_() for name, tensor in state.weights.items()}
    updates = weight_updates(memory, weights, settings, state.optimizer, processes)
    state.optimizer = {}
    interval = StateInterval(settings.checkpoint_every_seconds)
    remaining = itertools.islice(batches(examples, settings.tokens_per_step, settings.seed), state.step, settings.steps)
    for step, batch in enumerate(remaining, start=state.step):
        updates.begin(step, learning_rate(step, settings))
        trained = gradients(step, batch)
        norm = updates.gradient_norm() if trained.loss.isfinite() else trained.loss
        if not norm.isfinite():
            reason = f"{rate_setting}: the loss is not finite at step {step}"
            raise DivergedError(f"{reason}; lower it and remove {saved}")
        updates.finish()
        loss = trained.loss.item()
        _note(state, step, trained.kind, loss)
        if processes.first:
            _log(log_file, step, trained.kind, loss, float(norm), learning_rate(step, settings), trained.tokens)
            losses = (state.losses.get("full"), state.losses.get("subnet"))
            report(StepReport(step + 1, settings.steps, *losses, trained.tokens, peak_memory()))
        if processes.agree(interval.due):
            with interval.waiting():
                state.optimizer = updates.state_dict()
                save_state(saved, state, processes)
    updates.close()
    state.optimizer = {}


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
