"""In which order structures are removed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from services.pruner.structures import KINDS, Kind, Scores, count
from shared.network.shape import NetworkShape


@dataclass(frozen=True)
class Ranking:
    """Structures in the order of their removal: each one's layer, kind (an index of KINDS) and place among those of its
    layer and kind, all (structures,)."""

    layers: Tensor
    kinds: Tensor
    places: Tensor

    def __len__(self) -> int:
        return len(self.layers)

    def removed(self, number: int, layer: int, kind: Kind) -> Tensor:
        """The places of those of a layer and a kind that are among the first so many."""
        mine = (self.layers[:number] == layer) & (self.kinds[:number] == KINDS.index(kind))
        return self.places[:number][mine]

    def counts(self, number: int, network: NetworkShape) -> list[list[int]]:
        """How many structures of each kind stay in each layer after the removal of the first so many."""
        flat = self.layers[:number] * len(KINDS) + self.kinds[:number]
        gone = torch.bincount(flat, minlength=network.depth * len(KINDS)).view(-1, len(KINDS)).tolist()
        return [
            [count(layer, kind) - fewer for kind, fewer in zip(KINDS, removed, strict=True)]
            for layer, removed in zip(network.layers, gone, strict=True)
        ]


def uniformly(scores: Scores) -> Ranking:
    """The same share of each layer's structures of each kind, the least important first.

    Shares are rounded down: of few key/value heads none goes before as large a share of the neurons is gone.
    """
    return _ranking(scores, by_share=True)


def globally(scores: Scores) -> Ranking:
    """The least important of all layers first."""
    return _ranking(scores, by_share=False)


def _ranking(scores: Scores, by_share: bool) -> Ranking:
    """All structures but the best of each layer and kind, so that each layer remains a layer."""
    columns: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = []
    for layer, both in enumerate(zip(scores.neurons, scores.groups, strict=True)):
        for kind, own in enumerate(both):
            places = torch.argsort(own, stable=True)[:-1]
            shares = torch.arange(1, len(places) + 1) / max(len(own), 1)
            columns.append((torch.full_like(places, layer), torch.full_like(places, kind), places, own[places], shares))
    layers, kinds, places, values, shares = (torch.cat(column) for column in zip(*columns, strict=True))
    order = torch.argsort(values, stable=True)
    if by_share:
        order = order[torch.argsort(shares[order], stable=True)]
    return Ranking(layers[order], kinds[order], places[order])
