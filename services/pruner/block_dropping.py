"""Baselines that leave out whole layers: what they have in common once it is known which layers stay."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from services.pruner.calibration import Calibration
from services.pruner.protocol import PrunedNetwork, require_possible, required_text
from services.pruner.target import Target, fits
from shared.architecture import Architecture, derive
from shared.network.shape import NetworkShape
from shared.supernet.checkpoint import Checkpoint


class BlockDropping(ABC):
    """Leaves layers out, but for those that change the basis of what they hand on; one at least stays."""

    name: ClassVar[str]
    reads_text: ClassVar[bool] = True
    draws: ClassVar[bool] = False

    def smallest(self, base: NetworkShape, target: Target) -> NetworkShape:
        return shortest(base, target)

    def least_text(self, base: NetworkShape, target: Target) -> int:
        return 0

    def prune(self, base: Checkpoint, calibration: Calibration | None, target: Target, seed: int) -> PrunedNetwork:
        require_possible(self, base.network, calibration, target)
        kept = tuple(range(base.network.depth))
        if not fits(base.network, target):
            kept = self.keep(base, required_text(self, calibration), target, seed)
        return PrunedNetwork(base.cut(of_layers(base.network, kept)), kept)

    @abstractmethod
    def keep(self, base: Checkpoint, text: Calibration, target: Target, seed: int) -> tuple[int, ...]:
        """The layers that stay, ascending; the target is reachable, and smaller than the base."""


def droppable(network: NetworkShape) -> list[int]:
    """The layers that a network can do without."""
    return [index for index, layer in enumerate(network.layers) if layer.keeps_state]


def drop_until_fit(network: NetworkShape, order: Iterable[int], target: Target) -> tuple[int, ...]:
    """The layers that stay when others are left out in an order until the network fits, but for the last one of all.

    No layer of the order is asked for that isn't left out, as it may take long to find.
    """
    kept, left = tuple(range(network.depth)), iter(order)
    while len(kept) > 1 and not fits_with(network, kept, target) and (layer := next(left, None)) is not None:
        kept = tuple(one for one in kept if one != layer)
    return kept


def fits_with(network: NetworkShape, kept: tuple[int, ...], target: Target) -> bool:
    """Whether some of a network's layers don't exceed the target."""
    return fits(derive(network, of_layers(network, kept)), target)


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
