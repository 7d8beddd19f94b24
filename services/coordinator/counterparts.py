"""Random networks of the same sizes as those of a front, whose advantage over them is what the search achieved."""

import random
from collections.abc import Collection, Iterator, Sequence

from shared.architecture import Architecture
from shared.space import SearchSpace

DRAWS = 1000
"""How often an order of the layers is drawn before another size is tried."""


LayerGenes = tuple[int, ...]
"""The values of one layer's genes."""


def counterpart(
    space: SearchSpace, network: Architecture, excluded: Collection[Architecture], seed: int
) -> Architecture | None:
    """A random network with the layers of `network` in another order, and its quantization, that is none of `excluded`;
    None if the space holds none of nearly that size. Of several orders in which layers leave, it goes by a random one.

    So it has as many layers of each width, and as many without attention of each. Where there is no other order of
    these, one layer has the space's next wider or narrower width; if that is no other network either, it has attention
    or lacks it. The draw depends on the seed, the network and what is excluded alone.
    """
    rng = random.Random(f"{seed} {network.digest}")
    genome = list(space.genome(network.quantized(space.quantizations[0])))
    orders = [order for order in range(len(space.drop_orders)) if space.first_order(network.depth, order) == order]
    places_of = [
        [place for place, gene in enumerate(space.genes) if gene.layer == layer] for layer in range(space.network.depth)
    ]
    places = [places_of[layer] for layer in network.layers]
    choices = [space.genes[place].choices for place in places[0]]
    own = [tuple(genome[place] for place in of_layer) for of_layer in places]
    for layers in _layer_choices(own, choices, rng, several=len(orders) > 1):
        for _ in range(DRAWS):
            if len(orders) > 1:
                order = rng.choice(orders)
                genome[space.place("drop_order")] = order
                places = [places_of[layer] for layer in space.kept_layers(network.depth, order)]
            for of_layer, values in zip(places, rng.sample(layers, len(layers)), strict=True):
                for place, value in zip(of_layer, values, strict=True):
                    genome[place] = value
            drawn = space.architecture(genome).quantized(network.quantization)
            if drawn not in excluded and drawn != network:
                return drawn
    return None


def _layer_choices(
    layers: list[LayerGenes], choices: Sequence[int], rng: random.Random, several: bool
) -> Iterator[list[LayerGenes]]:
    """The network's layers, unless there is but one network of them: they are alike and leave in one order, not in
    `several`; then those with one gene of one layer a step up or down, in random order, gene by gene."""
    if len(set(layers)) > 1 or several:
        yield layers
    for place in range(len(choices)):
        steps = []
        for layer in set(layers):
            others = [other for other in (layer[place] - 1, layer[place] + 1) if 0 <= other < choices[place]]
            steps += [(layer, (*layer[:place], other, *layer[place + 1 :])) for other in others]
        steps.sort(reverse=True)  # the narrowest first: the order that the shuffle has always started from
        rng.shuffle(steps)
        for layer, changed in steps:
            stepped = layers.copy()
            stepped[stepped.index(layer)] = changed
            yield stepped
