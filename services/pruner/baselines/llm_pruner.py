"""LLM-Pruner (arXiv 2305.11627): structures go by what the loss is estimated to lose with them.

Without the paper's recovery by LoRA. Where query heads share key and value heads, the authors' code folds the
importance of queries onto keys in strides, which adds up heads of different groups; here a group has its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import ceil

import torch.nn.functional as F
from torch import Tensor

from services.pruner.calibration import Calibration
from services.pruner.computing import placed
from services.pruner.protocol import PrunedNetwork, required_text
from services.pruner.selection import cut_out, pruned
from services.pruner.structures import Scores, per_number
from services.pruner.target import Target
from services.pruner.width_pruning import WidthPruning
from shared.settings.baselines import LlmPrunerOptions
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder

FIRST_SPARED, LAST_SPARED = 1 / 8, 1 / 16
"""Shares of the layers at the beginning and the end that are left whole: 4 and 2 of 32, as in the authors' commands."""

MEASURES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "element": lambda salience: salience.abs().sum(1),
    "vector": lambda salience: salience.sum(1).abs(),
}
"""Importance of vectors (vectors, length) of weights times their gradients."""


class LlmPruner(WidthPruning):
    """A structure scores the sum of the first-order Taylor terms of its weights, |gradient times weight|, divided by
    how many weights it has; the gradient is that of the mean loss on the calibration text."""

    name = "llm-pruner"
    reads_text = True

    def __init__(self, options: LlmPrunerOptions) -> None:
        super().__init__(options)
        self._measure = MEASURES[options.importance]

    def spared(self, depth: int) -> frozenset[int]:
        first, last = ceil(depth * FIRST_SPARED), ceil(depth * LAST_SPARED)
        return frozenset((*range(min(first, depth)), *range(max(depth - last, 0), depth)))

    def narrowed(self, base: Checkpoint, calibration: Calibration | None, target: Target) -> PrunedNetwork:
        salience = saliences(placed(base), required_text(self, calibration))
        layers = [
            per_number(base.network, index, lambda spec: salience[spec.name], self._measure)
            for index in range(base.network.depth)
        ]
        scores = Scores.of_layers(layers)
        kept = self.choose(base.network, scores, target)
        return pruned(base, kept, *cut_out(base, kept))


def saliences(network: Decoder, text: Calibration) -> dict[str, Tensor]:
    """Every weight of the layers times its gradient, under its name in the checkpoint: how much the mean loss of the
    text's predictions changes, to first order, when the weight grows by its own size."""
    layers = tuple(layer.map(lambda tensor: tensor.detach().requires_grad_()) for layer in network.layers)
    network = replace(network, layers=layers)
    for one in text.passes(network.embeddings.device):
        logits = network.logits(network.hidden(one.packed)[one.places])
        loss = F.cross_entropy(logits.float(), one.targets, reduction="sum") / text.predictions
        loss.backward()  # type: ignore[no-untyped-call]
    return {name: weight.detach() * weight.grad for name, weight in network.weights() if weight.grad is not None}
