"""A random sub-network of equal size: the control that every method has to beat."""

import random

import torch
from torch import Tensor

from services.pruner.block_dropping import droppable, of_layers, shortest
from services.pruner.calibration import Calibration
from services.pruner.protocol import PrunedNetwork, require_possible
from services.pruner.ranking import globally
from services.pruner.selection import KeptLayer, choose, cut_out, narrowed, pruned
from services.pruner.structures import Scores, count
from services.pruner.target import Target, fits
from shared.architecture import derive
from shared.network.shape import NetworkShape
from shared.supernet.checkpoint import Checkpoint


class RandomNetwork:
    """Draws a number of layers to leave out among those with which the target can be met, which layers these are, and
    then removes neurons of the others by chance, from each layer at a pace of its own."""

    name = "random"
    reads_text = False
    draws = True

    def smallest(self, base: NetworkShape, target: Target) -> NetworkShape:
        return narrowest(shortest(base, target))

    def least_text(self, base: NetworkShape, target: Target) -> int:
        return 0

    def prune(self, base: Checkpoint, calibration: Calibration | None, target: Target, seed: int) -> PrunedNetwork:
        require_possible(self, base.network, calibration, target)
        if fits(base.network, target):
            return PrunedNetwork(base.cut(), tuple(range(base.network.depth)))
        chance = random.Random(seed)
        layers = _layers(base.network, target, chance)
        whole = derive(base.network, of_layers(base.network, layers))
        ranking = globally(Scores(_orders(whole, chance), (torch.empty(0),) * whole.depth))
        chosen = choose(whole, ranking, target)
        kept = [KeptLayer(place, structures) for place, structures in zip(layers, chosen, strict=True)]
        return pruned(base, kept, *cut_out(base, kept))


def narrowest(network: NetworkShape) -> NetworkShape:
    """The network with a single neuron in each MLP."""
    return narrowed(network, [[min(count(layer, "neurons"), 1), count(layer, "groups")] for layer in network.layers])


def _layers(network: NetworkShape, target: Target, chance: random.Random) -> tuple[int, ...]:
    """Random layers to keep: so few that single neurons fit, but so many, if that is possible, that all don't."""
    going = droppable(network)
    chance.shuffle(going)
    choices = [tuple(sorted(set(range(network.depth)).difference(going[:number]))) for number in range(len(going) + 1)]
    shapes = [(kept, derive(network, of_layers(network, kept))) for kept in choices if kept]
    possible = [(kept, shape) for kept, shape in shapes if fits(narrowest(shape), target)]
    full = [kept for kept, shape in possible if target.size(shape) >= target.at_most]
    return chance.choice(full) if full else possible[0][0]


def _orders(network: NetworkShape, chance: random.Random) -> tuple[Tensor, ...]:
    """Times at which neurons go, (width,) for each layer, where neurons of a layer go at the same random rate."""
    orders = []
    for width in network.mlp_widths:
        rate = 1 - chance.random()
        orders.append(torch.tensor([chance.expovariate(rate) for _ in range(width)]))
    return tuple(orders)
