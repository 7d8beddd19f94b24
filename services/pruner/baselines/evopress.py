"""EvoPress (arXiv 2410.14649) for whole layers: which ones stay is found by evolution."""

import random
from collections.abc import Collection

from services.pruner.block_dropping import BlockDropping, drop_until_fit, droppable, fits_with, of_layers
from services.pruner.calibration import Calibration
from services.pruner.computing import placed
from services.pruner.target import Target
from shared.architecture import derive
from shared.network.shape import NetworkShape
from shared.settings.baselines import EvoPressOptions
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.divergence import Kept, WholeNetwork

SCREENED_ON = 1 / 8
"""Share of the text by which offspring are screened."""
SURVIVE = 1 / 4
"""Share of the offspring that are then measured on all of it."""
MOST_SWAPS = 3
TRIES = 20
"""To find a swap after which the network fits, where layers differ in size."""


class EvoPress(BlockDropping):
    """Each generation's offspring swap a few layers that stay for as many that don't. They are screened on a part of
    the text; the network whose predictions on all of it diverge least from the base's is the next parent, if it is
    better than the present one. The first parent is the best of random networks.

    In the paper attention and MLP can be dropped apart from one another, too.
    """

    name = "evopress"
    draws = True

    def __init__(self, options: EvoPressOptions) -> None:
        self._generations, self._offspring = options.generations, options.offspring

    def keep(self, base: Checkpoint, text: Calibration, target: Target, seed: int) -> tuple[int, ...]:
        chance, network = random.Random(seed), placed(base)
        some = Calibration(text.sequences[: max(1, round(len(text.sequences) * SCREENED_ON))])
        screen, final = (WholeNetwork(network, part.rows(network.embeddings.device)) for part in (some, text))

        def best(candidates: set[Kept]) -> Kept:
            screened = _ranked(screen, candidates)
            return _ranked(final, screened[: max(1, round(len(screened) * SURVIVE))])[0]

        parent = best({_random(base.network, target, chance) for _ in range(self._offspring)})
        for _ in range(self._generations):
            child = best({_mutated(parent, base.network, target, chance) for _ in range(self._offspring)})
            parent = _ranked(final, (parent, child))[0]
        return parent


def _ranked(whole: WholeNetwork, choices: Collection[Kept]) -> list[Kept]:
    """Those that diverge least first."""
    divergences = whole.divergences(choices)
    return sorted(choices, key=lambda kept: (divergences[kept], kept))


def _random(network: NetworkShape, target: Target, chance: random.Random) -> Kept:
    order = droppable(network)
    chance.shuffle(order)
    return drop_until_fit(network, order, target)


def _mutated(parent: Kept, network: NetworkShape, target: Target, chance: random.Random) -> Kept:
    """The parent with some layers swapped; the parent itself where no swap is found after which the network fits and
    would not with one layer more."""
    going = droppable(network)
    inside, outside = ([layer for layer in going if (layer in parent) == stays] for stays in (True, False))
    for _ in range(TRIES):
        swaps = min(chance.randint(1, MOST_SWAPS), chance.randint(1, MOST_SWAPS), len(inside), len(outside))
        out, back = chance.sample(inside, swaps), chance.sample(outside, swaps)
        child = tuple(sorted(set(parent).difference(out).union(back)))
        if fits_with(network, child, target) and _is_full(network, child, target):
            return child
    return parent


def _is_full(network: NetworkShape, kept: Kept, target: Target) -> bool:
    """Whether none of the other layers would fit as well."""
    room = target.at_most - target.size(derive(network, of_layers(network, kept)))
    others = set(droppable(network)).difference(kept)
    return all(target.layer_size(network.family, network.layers[index]) > room for index in others)
