"""Greedy dropping of layers by what that does to the network's predictions (EvoPress' measure, arXiv 2410.14649)."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from services.pruner.block_dropping import BlockDropping, droppable
from services.pruner.calibration import Calibration, CalibrationPass
from services.pruner.computing import placed
from services.pruner.protocol import required_text
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder

TOKENS_AT_ONCE = 256
"""Whose predictions, each over the whole vocabulary, are in memory together."""


class Greedy(BlockDropping):
    """That layer goes next without which the predictions differ least from the base's: by the Kullback-Leibler
    divergence of the former from the latter, averaged over the tokens of the calibration text.

    Each drop takes a pass through the network for each layer that is left.
    """

    name = "greedy"

    def drops(self, base: Checkpoint, calibration: Calibration | None) -> Iterator[int]:
        network, text = placed(base), required_text(self, calibration)
        passes = list(text.passes(network.embeddings.device))
        with torch.inference_mode():
            dense = [network.hidden(one.packed) for one in passes]
        kept, left = list(range(len(network.layers))), droppable(base.network)
        while left and len(kept) > 1:
            without = {layer: _only(network, [one for one in kept if one != layer]) for layer in left}
            dropped = min(left, key=lambda layer: (divergence(without[layer], passes, dense), layer))
            kept.remove(dropped)
            left.remove(dropped)
            yield dropped


@torch.inference_mode()
def divergence(network: Decoder, passes: list[CalibrationPass], dense: list[Tensor]) -> float:
    """Mean divergence of a network's predictions from those that the head makes of the states `dense`, (T, hidden) of
    each pass; in nats a token."""
    total, tokens = 0.0, 0
    for one, reference in zip(passes, dense, strict=True):
        states = network.hidden(one.packed)
        for ours, theirs in zip(*(torch.split(some, TOKENS_AT_ONCE) for some in (states, reference)), strict=True):
            log_ours, log_theirs = (network.logits(some).float().log_softmax(-1) for some in (ours, theirs))
            total += float(torch.nn.functional.kl_div(log_ours, log_theirs, reduction="sum", log_target=True))
        tokens += len(states)
    return total / tokens


def _only(network: Decoder, kept: list[int]) -> Decoder:
    shape = replace(network.shape, layers=tuple(network.shape.layers[index] for index in kept))
    return replace(network, shape=shape, layers=tuple(network.layers[index] for index in kept))
