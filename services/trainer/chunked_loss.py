"""Losses over a large vocabulary with only a few rows of logits at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.memory_needs import CHUNKED_LOGITS

LOGITS = CHUNKED_LOGITS
"""Logits that are there together: 64 MB in float32."""

DISTILLED = 0.7
"""What of a loss is the teacher's part, where the data teach as well."""


@dataclass(frozen=True)
class Taught:
    """What a teacher predicts at N places: its last states there (N, hidden), and its language head (vocabulary,
    hidden), which makes predictions of them. Logits, which take far more memory, are made of these when they are
    needed. Neither gets a gradient. `teacher_only`: nothing else is learnt, so the places are those of all tokens."""

    states: Tensor
    head: Tensor
    teacher_only: bool = False

    @property
    def part(self) -> float:
        """The teacher's part of the loss."""
        return 1.0 if self.teacher_only else DISTILLED


def chunked_cross_entropy(states: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of `targets` (N,) under the logits that the language head (vocabulary, hidden) makes of states
    (N, hidden).

    The gradients of states and head are computed along with the loss, chunk by chunk (as Liger's fused linear
    cross-entropy does, arXiv 2410.10989): so logits are neither kept for the backward pass nor computed again in it.
    """
    loss: Tensor = _ChunkedCrossEntropy.apply(states, head, targets)  # type: ignore[no-untyped-call]
    return loss


def chunked_distillation(states: Tensor, head: Tensor, targets: Tensor, taught: Taught) -> Tensor:
    """Mean of (1 - p) times the cross-entropy of `targets` (N,) plus p times the KL divergence of the predictions that
    the language head (vocabulary, hidden) makes of states (N, hidden) from those of a teacher (Hinton et al., arXiv
    1503.02531; at temperature 1), where p is the teacher's part.
    """
    loss: Tensor = _ChunkedDistillation.apply(  # type: ignore[no-untyped-call]
        states, head, targets, taught.states, taught.head.detach(), taught.part
    )
    return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        def of_chunk(here: slice) -> tuple[Tensor, Tensor]:
            likelihoods, chosen = _likelihoods(states[here], head), _chosen(targets[here])
            loss = -likelihoods[chosen].sum()
            gradient = likelihoods.exp_()
            gradient[chosen] -= 1
            return loss, gradient

        return _mean_loss(ctx, states, head, max(1, LOGITS // len(head)), of_chunk)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        of_states, of_head = ctx.saved_tensors
        return *_scaled(of_states, of_head, *gradients), None


class _ChunkedDistillation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: Tensor, head: Tensor, targets: Tensor, taught_states: Tensor, taught_head: Tensor, part: float
    ) -> Tensor:
        def of_chunk(here: slice) -> tuple[Tensor, Tensor]:
            likelihoods, chosen = _likelihoods(states[here], head), _chosen(targets[here])
            expected = _likelihoods(taught_states[here], taught_head)
            loss = part * F.kl_div(likelihoods, expected, reduction="sum", log_target=True)
            loss -= (1 - part) * likelihoods[chosen].sum()
            gradient = likelihoods.exp_().sub_(expected.exp_(), alpha=part)
            gradient[chosen] -= 1 - part
            return loss, gradient

        return _mean_loss(ctx, states, head, max(1, LOGITS // (2 * len(head))), of_chunk)  # the teacher's take as much

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        of_states, of_head = ctx.saved_tensors
        return *_scaled(of_states, of_head, *gradients), None, None, None, None


def _likelihoods(states: Tensor, head: Tensor) -> Tensor:
    """Of all tokens after each state, as logarithms, shape (states, vocabulary)."""
    return F.log_softmax(F.linear(states, head).float(), dim=-1)


def _chosen(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Where the targets' likelihoods are."""
    return torch.arange(len(targets), device=targets.device), targets


def _mean_loss(
    ctx: Any, states: Tensor, head: Tensor, places: int, of_chunk: Callable[[slice], tuple[Tensor, Tensor]]
) -> Tensor:
    """The mean of the losses of all states, `places` at once: `of_chunk` gives the sum of some, and its gradient by
    their logits. Saves the gradients of states and head, as far as they are wanted."""
    loss = torch.zeros((), dtype=torch.float32, device=states.device)
    of_states = torch.empty_like(states) if ctx.needs_input_grad[0] else None
    of_head = torch.zeros_like(head) if ctx.needs_input_grad[1] else None
    for start in range(0, len(states), places):
        here = slice(start, start + places)
        part, by_logits = of_chunk(here)
        loss += part
        gradient = by_logits.div_(len(states)).to(head.dtype)
        if of_states is not None:
            of_states[here] = gradient @ head
        if of_head is not None:
            of_head.addmm_(gradient.T, states[here])
    ctx.save_for_backward(of_states, of_head)
    return loss / len(states)


def _scaled(of_states: Tensor | None, of_head: Tensor | None, given: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of states and head, by the loss's own one; the head's in place, as it is large."""
    return (
        None if of_states is None else of_states * given.to(of_states.dtype),
        None if of_head is None else of_head.mul_(given.to(of_head.dtype)),
    )
