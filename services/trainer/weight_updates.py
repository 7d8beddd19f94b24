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

from services.trainer.chunked_loss import chunked_cross_entropy
from services.trainer.lean_adamw import BETAS, LeanAdamW
from shared.settings import MemoryRecipe, TrainingSettings
from shared.supernet.decoder import Decoder, LayerStep, Sequences

LossOfTargets = Callable[[Decoder, Sequences, Sequence[int], Sequence[int]], Tensor]
"""Mean cross-entropy of targets, each predicted at its place in a row of sequences."""


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
        """What has to be known to go on."""

    def close(self) -> None:
        """No step follows: the weights hold on to nothing of this."""


def held_dtype(recipe: MemoryRecipe) -> torch.dtype:
    """The dtype in which weights are held while they are trained."""
    return torch.float32 if recipe == "full" else torch.bfloat16


def computing_dtype(recipe: MemoryRecipe, preferred: torch.dtype) -> torch.dtype:
    """The dtype in which steps compute, of a machine that prefers one: what is lean has no room for a copy."""
    return preferred if recipe == "full" else torch.bfloat16


def weight_updates(
    recipe: MemoryRecipe, weights: Mapping[str, Tensor], settings: TrainingSettings, state: dict[str, Any]
) -> WeightUpdates:
    """The updates of weights, which are leaves of the graph; `state` is what `state_dict` gave, empty at first."""
    kinds: dict[MemoryRecipe, Callable[..., WeightUpdates]] = {
        "full": FullUpdates,
        "lean": LeanUpdates,
        "leanest": LeanestUpdates,
    }
    return kinds[recipe](weights, settings, state)


def loss_of_targets(recipe: MemoryRecipe) -> LossOfTargets:
    """How the loss of a step is computed."""
    return _whole_loss if recipe == "full" else _lean_loss


class FullUpdates:
    """torch's AdamW, gradients clipped by the norm of all of them."""

    def __init__(self, weights: Mapping[str, Tensor], settings: TrainingSettings, state: dict[str, Any]) -> None:
        self._weights, self._clip_norm = list(weights.values()), settings.clip_norm
        self._optimizer = torch.optim.AdamW(
            self._weights, lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=BETAS, fused=True
        )
        if state:
            self._optimizer.load_state_dict(state)

    def begin(self, step: int, rate: float) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def gradient_norm(self) -> Tensor:
        return torch.nn.utils.clip_grad_norm_(self._weights, self._clip_norm)

    def finish(self) -> None:
        self._optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        return self._optimizer.state_dict()

    def close(self) -> None:
        """Nothing holds on to it."""


class LeanUpdates:
    """`LeanAdamW` for each weight after the backward pass, gradients clipped by the norm of all of them."""

    def __init__(self, weights: Mapping[str, Tensor], settings: TrainingSettings, state: dict[str, Any]) -> None:
        self._weights, self._clip_norm = weights, settings.clip_norm
        self._optimizer = LeanAdamW(settings.weight_decay, settings.seed, state)
        self._step, self._rate, self._norm = 0, 0.0, torch.zeros(())

    def begin(self, step: int, rate: float) -> None:
        self._step, self._rate = step, rate
        for weight in self._weights.values():
            weight.grad = None

    def gradient_norm(self) -> Tensor:
        gradients = (weight.grad for weight in self._weights.values())
        self._norm = _norm([_norm_of(gradient) for gradient in gradients if gradient is not None])
        return self._norm

    def finish(self) -> None:
        scale = (self._clip_norm / (self._norm + 1e-6)).clamp(max=1.0)  # as torch's clip_grad_norm_
        for name, weight in self._weights.items():
            if weight.grad is not None:
                self._optimizer.update(name, weight, weight.grad, self._step, self._rate, scale)
                weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        return self._optimizer.state_dict()

    def close(self) -> None:
        """Nothing holds on to it."""


class LeanestUpdates:
    """`LeanAdamW` for each weight within the backward pass, as soon as its gradient is there."""

    def __init__(self, weights: Mapping[str, Tensor], settings: TrainingSettings, state: dict[str, Any]) -> None:
        self._optimizer = LeanAdamW(settings.weight_decay, settings.seed, state)
        self._step, self._rate, self._norms = 0, 0.0, list[Tensor]()
        self._hooks = [
            weight.register_post_accumulate_grad_hook(partial(self._update, name))  # type: ignore[no-untyped-call]
            for name, weight in weights.items()
        ]

    def begin(self, step: int, rate: float) -> None:
        self._step, self._rate = step, rate
        self._norms.clear()

    def gradient_norm(self) -> Tensor:
        return _norm(self._norms)

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
            self._norms.append(_norm_of(gradient))
            self._optimizer.update(name, weight, gradient, self._step, self._rate, None)


def _norm_of(gradient: Tensor) -> Tensor:
    return torch.linalg.vector_norm(gradient).float()  # type: ignore[no-any-return]


def _norm(norms: Sequence[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack(list(norms)))  # type: ignore[no-any-return]


def _whole_loss(network: Decoder, sequences: Sequences, places: Sequence[int], targets: Sequence[int]) -> Tensor:
    states = network.hidden(sequences)
    logits = network.logits(states[torch.tensor(places, device=states.device)])
    return F.cross_entropy(logits.float(), torch.tensor(targets, device=states.device))


def _lean_loss(network: Decoder, sequences: Sequences, places: Sequence[int], targets: Sequence[int]) -> Tensor:
    states = network.hidden(sequences, run=_recomputed)
    chosen = states[torch.tensor(places, device=states.device)]
    return chunked_cross_entropy(chosen, network.head, torch.tensor(targets, device=states.device))


def _recomputed(step: LayerStep, state: Tensor) -> tuple[Tensor, Tensor | None]:
    """A layer of which only the state before it is kept for the backward pass. Nothing in it is random."""
    return checkpoint(step, state, use_reentrant=False, preserve_rng_state=False)  # type: ignore[no-any-return]
