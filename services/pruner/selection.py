"""A network made of some layers of a base, and of some of their coupled structures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from services.pruner.protocol import PrunedNetwork
from services.pruner.ranking import Ranking
from services.pruner.structures import KINDS, Kind, count, select, with_counts
from services.pruner.target import Target, fits
from shared.network.shape import LayerShape, NetworkShape
from shared.network.tensors import layer_tensors, outer_tensors
from shared.supernet.checkpoint import Checkpoint

Weights = Mapping[str, Tensor]

Narrow = Callable[[LayerShape, int, int], LayerShape]
"""What becomes of a layer of which so many neurons and groups stay."""


@dataclass(frozen=True)
class KeptLayer:
    """A layer at a place in the base, and the places of what is kept of it, ascending."""

    place: int
    structures: Mapping[Kind, Tensor]


def narrowed(network: NetworkShape, counts: Sequence[Sequence[int]], narrow: Narrow = with_counts) -> NetworkShape:
    """What becomes of a network of which so many structures of each of KINDS stay in each layer."""
    layers = (narrow(layer, *both) for layer, both in zip(network.layers, counts, strict=True))
    return replace(network, layers=tuple(layers))


def choose(
    network: NetworkShape, ranking: Ranking, target: Target, narrow: Narrow = with_counts
) -> list[dict[Kind, Tensor]]:
    """What is kept of each layer so that the network fits, when structures are removed in the order of a ranking and no
    more than is needed: with the last one of them it wouldn't fit. The target must be reachable."""
    enough, too_few = len(ranking), -1
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        if fits(narrowed(network, ranking.counts(middle, network), narrow), target):
            enough = middle
        else:
            too_few = middle
    return [
        {kind: _others(count(layer, kind), ranking.removed(enough, index, kind)) for kind in KINDS}
        for index, layer in enumerate(network.layers)
    ]


def cut_out(base: Checkpoint, kept: Sequence[KeptLayer]) -> tuple[NetworkShape, dict[str, Tensor]]:
    """What is kept of a base, in order: the network and its weights."""
    whole = [base.network.layers[one.place] for one in kept]
    network = narrowed(
        replace(base.network, layers=tuple(whole)), [[len(one.structures[kind]) for kind in KINDS] for one in kept]
    )
    weights = {spec.name: base.weights[spec.name] for spec in outer_tensors(base.network)}
    for index, (one, layer) in enumerate(zip(kept, whole, strict=True)):
        old, new = (layer_tensors(network.family, layer, place) for place in (one.place, index))
        for source, made in zip(old, new, strict=True):
            weights[made.name] = select(source, base.weights[source.name], layer, one.structures)
    return network, weights


def pruned(base: Checkpoint, kept: Sequence[KeptLayer], network: NetworkShape, weights: Weights) -> PrunedNetwork:
    """The network of what is kept of a base, with weights under its own names."""
    return PrunedNetwork(replace(base, network=network, weights=weights).cut(), tuple(one.place for one in kept))


def _others(number: int, removed: Tensor) -> Tensor:
    """The places from 0 to `number` - 1 without the removed ones."""
    stays = torch.ones(number, dtype=torch.bool)
    stays[removed] = False
    return stays.nonzero().squeeze(1)
