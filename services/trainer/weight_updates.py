"""How weights are held and updated: the recipes of `training.memory`.

Bytes of a weight, besides activations:

* full: 18. Float32 with float32 gradients and states, and a copy in the dtype that computes.
* lean: 6. Bfloat16 that computes as it is held, bfloat16 gradients, states of 8 bits (`lean_adamw`). The backward pass
  computes each layer again instead of keeping what is in it (arXiv 1604.06174), and logits are there a chunk at a time.
* leanest: 4. The same, but each tensor is updated as soon as the backward pass has its gradient, which then goes (as in
  LOMO, arXiv 2306.09782). So there is no norm of all gradients to scale them down by before the update.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from services.trainer.chunked_loss import Taught, chunked_cross_entropy, chunked_distillation
from services.trainer.distributed.processes import ALONE, Processes
from services.trainer.lean_adamw import BETAS, LeanAdamW
from shared.settings import MemoryRecipe, TrainingSettings
from shared.supernet.decoder import Decoder, LayerStep, Sequences

LossOfTargets = Callable[[Decoder, Sequences, Sequence[int], Sequence[int], Taught | None], Tensor]
"""Mean cross-entropy of targets, each predicted at its place in a row of sequences; where it is given what a teacher
predicts at these places, its mean with the divergence from that (see `chunked_distillation`)."""


class WeightUpdates(Protocol):
    """Updates weights by their gradients, one step after the other: `begin`, then the backward pass, then
    `gradient_norm`, then `finish`."""

    def begin(self, step: int, rate: float) -> None:
        """No weight has a gradient; those that are to come are of this step, at this learning rate."""

    def gradient_norm(self) -> Tensor:
        """The norm of all gradients of the step, a scalar; not finite where one of them isn't."""

    def finish(self) -> None:
        """All weights with a gradient are updated."""

    def state_dict(self) -> dict[str, Any]:
        """What has to be known of each weight to go on: see `TrainingState.optimizer`."""

    def close(self) -> None:
        """No step follows: the weights hold on to nothing of this."""


def held_dtype(recipe: MemoryRecipe) -> torch.dtype:
    """The dtype in which weights are held while they are trained."""
    return torch.float32 if recipe == "full" else torch.bfloat16


def computing_dtype(recipe: MemoryRecipe, preferred: torch.dtype) -> torch.dtype:
    """The dtype in which steps compute, of a machine that prefers one: what is lean has no room for a copy."""
    return preferred if recipe == "full" else torch.bfloat16


def weight_updates(
    recipe: MemoryRecipe,
    weights: Mapping[str, Tensor],
    settings: TrainingSettings,
    state: dict[str, Any],
    processes: Processes = ALONE,
) -> WeightUpdates:
    """The updates of weights, which are leaves of the graph; `state` is what `state_dict` gave, empty at first. Of
    several processes each updates the rows that it has."""
    kinds: dict[MemoryRecipe, Callable[..., WeightUpdates]] = {
        "full": FullUpdates,
        "lean": LeanUpdates,
        "leanest": LeanestUpdates,
    }
    return kinds[recipe](weights, settings, state, processes)


def loss_of_targets(recipe: MemoryRecipe) -> LossOfTargets:
    """How the loss of a step is computed."""
    return _whole_loss if recipe == "full" else _lean_loss


class FullUpdates:
    """torch's AdamW, gradients clipped by the norm of all of them."""

    def __init__(
        self, weights: Mapping[str, Tensor], settings: TrainingSettings, state: dict[str, Any], processes: Processes
    ) -> None:
        self._weights, self._clip_norm, self._processes = weights, settings.clip_norm, processes
        self._rows = {name: processes.local(weight) for name, weight in weights.items()}
        self._optimizer = torch.optim.AdamW(
            self._rows.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=BETAS, fused=True
        )
        kept = {number: state[name] for number, name in enumerate(weights) if name in state}
        self._optimizer.load_state_dict({"state": kept, "param_groups": self._optimizer.state_dict()["param_groups"]})

    def begin(self, step: int, rate: float) -> None:
        for name, weight in self._weights.items():
            weight.grad = self._rows[name].grad = None  # both hold on to it
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def gradient_norm(self) -> Tensor:
        for name, weight in self._weights.items():
            self._rows[name].grad = None if weight.grad is None else self._processes.local(weight.grad)
        found = [rows.grad for rows in self._rows.values() if rows.grad is not None]
        norm = self._processes.joint_norm(torch.nn.utils.get_total_norm(found))
        torch.nn.utils.clip_grads_with_norm_(self._rows.values(), self._clip_norm, norm)
        return norm

    def finish(self) -> None:
        self._optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        return {name: self._optimizer.state[rows] for name, rows in self._rows.items() if rows in self._optimizer.state}

    def close(self) -> None:
        """Nothing holds on to it."""


class LeanUpdates:
    """`LeanAdamW` for each weight after the backward pass, gradients clipped by the norm of all of them."""

    def __init__(
        self, weights: Mapping[str, Tensor], settings: TrainingSettings, state: dict[str, Any], processes: Processes
    ) -> None:
        self._weights, self._clip_norm, self._processes = weights, settings.clip_norm, processes
        self._optimizer = LeanAdamW(settings.weight_decay, settings.seed, state, processes.rank)
        self._step, self._rate, self._norm = 0, 0.0, torch.zeros(())

    def begin(self, step: int, rate: float) -> None:
        self._step, self._rate = step, rate
        for weight in self._weights.values():
            weight.grad = None

    def gradient_norm(self) -> Tensor:
        gradients = (weight.grad for weight in self._weights.values())
        norms = [_norm_of(self._processes.local(gradient)) for gradient in gradients if gradient is not None]
        self._norm = self._processes.joint_norm(_norm(norms))
        return self._norm

    def finish(self) -> None:
        scale = (self._clip_norm / (self._norm + 1e-6)).clamp(max=1.0)  # as torch's clip_grad_norm_
        for name, weight in self._weights.items():
            if weight.grad is not None:
                rows, gradient = self._processes.local(weight), self._processes.local(weight.grad)
                self._optimizer.update(name, rows, gradient, self._step, self._rate, scale)
                weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        return self._optimizer.state_dict()

    def close(self) -> None:
        """Nothing holds on to it."""


class LeanestUpdates:
    """`LeanAdamW` for each weight within the backward pass, as soon as its gradient is there."""

    def __init__(
        self, weights: Mapping[str, Tensor], settings: TrainingSettings, state: dict[str, Any], processes: Processes
    ) -> None:
        self._optimizer = LeanAdamW(settings.weight_decay, settings.seed, state, processes.rank)
        self._processes = processes
        self._step, self._rate, self._norms = 0, 0.0, list[Tensor]()
        self._hooks = [
            weight.register_post_accumulate_grad_hook(partial(self._update, name))  # type: ignore[no-untyped-call]
            for name, weight in weights.items()
        ]

    def begin(self, step: int, rate: float) -> None:
        self._step, self._rate = step, rate
        self._norms.clear()

    def gradient_norm(self) -> Tensor:
        return self._processes.joint_norm(_norm(self._norms))

    def finish(self) -> None:
        """All is done already."""

    def state_dict(self) -> dict[str, Any]:
        return self._optimizer.state_dict()

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _update(self, name: str, weight: Tensor) -> None:
        gradient, weight.grad = weight.grad, None
        if gradient is not None:
            rows, gradient = self._processes.local(weight), self._processes.local(gradient)
            self._norms.append(_norm_of(gradient))
            self._optimizer.update(name, rows, gradient, self._step, self._rate, None)


def _norm_of(gradient: Tensor) -> Tensor:
    return torch.linalg.vector_norm(gradient).float()  # type: ignore[no-any-return]


def _norm(norms: Sequence[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack(list(norms)))  # type: ignore[no-any-return]


def _whole_loss(
    network: Decoder, sequences: Sequences, places: Sequence[int], targets: Sequence[int], taught: Taught | None
) -> Tensor:
    states = network.hidden(sequences)
    chosen = states[torch.tensor(places, device=states.device)]
    expected = torch.tensor(targets, device=states.device)
    if taught is not None:
        return chunked_distillation(chosen, network.head, expected, taught)
    return F.cross_entropy(network.logits(chosen).float(), expected)


def _lean_loss(
    network: Decoder, sequences: Sequences, places: Sequence[int], targets: Sequence[int], taught: Taught | None
) -> Tensor:
    states = network.hidden(sequences, run=_recomputed)
    chosen = states[torch.tensor(places, device=states.device)]
    expected = torch.tensor(targets, device=states.device)
    if taught is not None:
        return chunked_distillation(chosen, network.head, expected, taught)
    return chunked_cross_entropy(chosen, network.head, expected)


def _recomputed(step: LayerStep, state: Tensor) -> tuple[Tensor, Tensor | None]:
    """A layer of which only the state before it is kept for the backward pass. Nothing in it is random."""
    return checkpoint(step, state, use_reentrant=False, preserve_rng_state=False)  # type: ignore[no-any-return]
