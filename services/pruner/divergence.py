"""How far the predictions of a network without some of its layers are from those of the whole one."""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F

from services.pruner.calibration import Calibration
from shared.supernet.decoder import Decoder

TOKENS_AT_ONCE = 256
"""Whose predictions, each over the whole vocabulary, are in memory together."""


class WholeNetwork:
    """A network, and the states from which it makes its predictions for calibration text."""

    @torch.inference_mode()
    def __init__(self, network: Decoder, text: Calibration) -> None:
        self._network = network
        self._passes = [one.packed for one in text.passes(network.embeddings.device)]
        self._states = [network.hidden(one) for one in self._passes]

    @torch.inference_mode()
    def divergence(self, kept: Sequence[int]) -> float:
        """The Kullback-Leibler divergence of the predictions that the layers `kept` make from those of all layers, the
        mean over the tokens of the text, in nats."""
        network, total, tokens = self._only(kept), 0.0, 0
        for packed, whole in zip(self._passes, self._states, strict=True):
            states = network.hidden(packed)
            for both in zip(*(torch.split(some, TOKENS_AT_ONCE) for some in (states, whole)), strict=True):
                ours, theirs = (network.logits(some).float().log_softmax(-1) for some in both)
                total += float(F.kl_div(ours, theirs, reduction="sum", log_target=True))
            tokens += len(states)
        return total / tokens

    def _only(self, kept: Sequence[int]) -> Decoder:
        shape = self._network.shape
        return replace(
            self._network,
            shape=replace(shape, layers=tuple(shape.layers[index] for index in kept)),
            layers=tuple(self._network.layers[index] for index in kept),
        )
