"""Baselines that leave out whole layers: what they have in common once it is known which layer goes next."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import BaseModel

from services.pruner.calibration import Calibration
from services.pruner.protocol import PrunedNetwork, require_possible
from services.pruner.target import Target, fits
from shared.architecture import Architecture, derive
from shared.network.shape import NetworkShape
from shared.supernet.checkpoint import Checkpoint


class BlockDropping(ABC):
    """Leaves layers out, but for those that change the basis of what they hand on; one at least stays."""

    name: ClassVar[str]
    reads_text: ClassVar[bool] = True
    draws: ClassVar[bool] = False

    def __init__(self, options: BaseModel) -> None:
        self._options = options

    @property
    def options(self) -> dict[str, Any]:
        return self._options.model_dump(mode="json")

    def smallest(self, base: NetworkShape, target: Target) -> NetworkShape:
        return shortest(base, target)

    def prune(self, base: Checkpoint, calibration: Calibration | None, target: Target, seed: int) -> PrunedNetwork:
        require_possible(self, base.network, calibration, target)
        kept = tuple(range(base.network.depth))
        if not fits(base.network, target):
            for layer in self.drops(base, calibration):
                kept = tuple(one for one in kept if one != layer)
                if fits(derive(base.network, of_layers(base.network, kept)), target):
                    break
        return PrunedNetwork(base.cut(of_layers(base.network, kept)), kept)

    @abstractmethod
    def drops(self, base: Checkpoint, calibration: Calibration | None) -> Iterator[int]:
        """Layers in the order in which they are left out: all of `droppable` but the last one to stay."""


def droppable(network: NetworkShape) -> list[int]:
    """The layers that a network can do without."""
    return [index for index, layer in enumerate(network.layers) if layer.keeps_state]


def of_layers(network: NetworkShape, kept: tuple[int, ...]) -> Architecture:
    """Some of a network's layers, as they are."""
    return Architecture(layers=kept, mlp_widths=tuple(network.mlp_widths[index] for index in kept))


def shortest(network: NetworkShape, target: Target) -> NetworkShape:
    """The network without layers that it can do without; where no others are there, with the largest of them, as nobody
    knows which one will stay."""
    stay = [layer for layer in network.layers if not layer.keeps_state]
    if not stay:
        stay = [max(network.layers, key=lambda layer: target.layer_size(network.family, layer))]
    return replace(network, layers=tuple(stay))
