"""Baselines that make layers narrower: what they have in common once structures have scores."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch

from services.pruner.calibration import Calibration
from services.pruner.protocol import PrunedNetwork, require_possible
from services.pruner.ranking import globally, uniformly
from services.pruner.selection import KeptLayer, choose, narrowed
from services.pruner.structures import KINDS, Kind, Scores, count, with_counts
from services.pruner.target import Target, fits
from shared.network.shape import LayerShape, NetworkShape
from shared.settings.baselines import WidthOptions
from shared.supernet.checkpoint import Checkpoint

NONE = torch.empty(0)


class WidthPruning(ABC):
    """Removes MLP neurons and, as an option, key/value groups, at least one of which stays in each layer."""

    name: ClassVar[str]
    reads_text: ClassVar[bool]
    draws: ClassVar[bool] = False

    def __init__(self, options: WidthOptions) -> None:
        self._options = options

    def smallest(self, base: NetworkShape, target: Target) -> NetworkShape:
        least = [[self._least(base, index, kind) for kind in KINDS] for index in range(base.depth)]
        return narrowed(base, least, self.narrow)

    def least_text(self, base: NetworkShape, target: Target) -> int:
        return 0

    def prune(self, base: Checkpoint, calibration: Calibration | None, target: Target, seed: int) -> PrunedNetwork:
        require_possible(self, base.network, calibration, target)
        if fits(base.network, target):
            return PrunedNetwork(base.cut(), tuple(range(base.network.depth)))
        return self.narrowed(base, calibration, target)

    @abstractmethod
    def narrowed(self, base: Checkpoint, calibration: Calibration | None, target: Target) -> PrunedNetwork:
        """The base without the structures that have to go; the target is reachable, and smaller than the base."""

    def spared(self, depth: int) -> frozenset[int]:
        """The layers of a network of such a depth that lose nothing."""
        return frozenset()

    def narrow(self, layer: LayerShape, neurons: int, groups: int) -> LayerShape:
        """What becomes of a layer of which so many structures stay."""
        return with_counts(layer, neurons, groups)

    def choose(self, base: NetworkShape, scores: Scores, target: Target) -> list[KeptLayer]:
        """What is kept of each layer, by scores for all structures."""
        removable = Scores.of_layers(
            {
                kind: own[index] if self._least(base, index, kind) < len(own[index]) else NONE
                for kind, own in zip(KINDS, (scores.neurons, scores.groups), strict=True)
            }
            for index in range(base.depth)
        )
        ranking = (uniformly if self._options.allocation == "uniform" else globally)(removable)
        return [KeptLayer(*one) for one in enumerate(choose(base, ranking, target, self.narrow))]

    def _least(self, base: NetworkShape, index: int, kind: Kind) -> int:
        """How many structures of a kind stay in a layer whatever the target is."""
        whole = count(base.layers[index], kind)
        stays = index in self.spared(base.depth) or (kind == "groups" and not self._options.heads)
        return whole if stays else min(whole, 1)
