"""How far the predictions of a network without some of its layers are from those of the whole one."""

from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.supernet.calibration_row import CalibrationRow
from shared.supernet.decoder import Decoder
from shared.supernet.packing import Packed

TOKENS_AT_ONCE = 64
"""Whose predictions, each over the whole vocabulary, are in memory together: few, as more of them take twice as long
where memory has to be had from the system each time."""

Kept = tuple[int, ...]
"""The layers that stay, ascending."""


class WholeNetwork:
    """A network, and the states from which it makes its predictions for calibration text."""

    @torch.inference_mode()
    def __init__(self, network: Decoder, text: Iterable[CalibrationRow]) -> None:
        self._network, self._rows = network, list(text)
        self._states = [row.counted(network.hidden(row.packed)) for row in self._rows]
        self._known: dict[Kept, float] = {}

    def divergences(self, choices: Iterable[Kept]) -> dict[Kept, float]:
        """For each choice of layers: the Kullback-Leibler divergence of the predictions that they make from those of
        all layers, the mean over the tokens that count, in nats. Each is measured once."""
        choices = set(choices)
        new = sorted(choices.difference(self._known))  # side by side with those that begin with the same layers
        self._known.update(zip(new, self._measured(new), strict=True))
        return {kept: self._known[kept] for kept in choices}

    def ranked(self, kept: Kept, layers: Iterable[int]) -> list[int]:
        """Some of the layers that are kept, the one first without which the others' predictions diverge least; of equal
        ones the lowest."""
        without = {layer: tuple(one for one in kept if one != layer) for layer in layers}
        divergences = self.divergences(without.values())
        return sorted(without, key=lambda layer: (divergences[without[layer]], layer))

    @torch.inference_mode()
    def _measured(self, choices: Sequence[Kept]) -> list[float]:
        totals, tokens = [0.0] * len(choices), 0
        for row, whole in zip(self._rows, self._states, strict=True):
            states = [torch.split(row.counted(some), TOKENS_AT_ONCE) for some in self._outputs(choices, row.packed)]
            for part, those in enumerate(torch.split(whole, TOKENS_AT_ONCE)):
                theirs = self._predictions(those)
                for number, some in enumerate(states):
                    ours = self._predictions(some[part])
                    totals[number] += float(F.kl_div(ours, theirs, reduction="sum", log_target=True))
            tokens += len(whole)
        return [total / tokens for total in totals]

    def _outputs(self, choices: Sequence[Kept], packed: Packed) -> Iterator[Tensor]:
        """The states of each choice of layers. Those that a choice begins with are not computed again if the one before
        it begins with them, too."""
        states, before = [self._network.embedded(packed.tokens)], Kept()
        for kept in choices:
            shared = _shared(before, kept)
            del states[shared + 1 :]
            for index in kept[shared:]:
                states.append(self._network.layer_outputs(index, self._network.layers[index], states[-1], packed))
            before = kept
            yield self._network.outputs(states[-1])

    def _predictions(self, states: Tensor) -> Tensor:
        return self._network.logits(states).float().log_softmax(-1)


def _shared(one: Kept, other: Kept) -> int:
    """With how many layers both begin."""
    differing = (place for place, (ours, theirs) in enumerate(zip(one, other, strict=False)) if ours != theirs)
    return next(differing, min(len(one), len(other)))
