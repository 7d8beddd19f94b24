"""Random networks of the same size: what a search is worth is what its networks have over these."""

import random
from collections.abc import Collection, Iterator

from shared.architecture import Architecture
from shared.space import SearchSpace

DRAWS = 1000
"""How often an arrangement is drawn that isn't taken, before another size is tried."""


def counterpart(
    space: SearchSpace, network: Architecture, taken: Collection[Architecture], seed: int
) -> Architecture | None:
    """A random network with as many layers of each width as `network`, and its quantization, that is none of `taken`;
    None if the space holds none of nearly that size.

    Where there is no other arrangement of these widths, one layer has the next wider or narrower of the space's. The
    draw depends on the seed and the network alone, but for what is taken.
    """
    rng = random.Random(f"{seed} {network.digest}")
    for widths in _sizes(space, network, rng):
        for _ in range(DRAWS):
            drawn = Architecture(
                layers=network.layers,
                mlp_widths=tuple(rng.sample(widths, len(widths))),
                quantization=network.quantization,
            )
            if drawn not in taken and drawn != network:
                return drawn
    return None


def _sizes(space: SearchSpace, network: Architecture, rng: random.Random) -> Iterator[list[int]]:
    """The network's widths, then those with one layer a step wider or narrower, in random order."""
    widths = list(network.mlp_widths)
    if len(set(widths)) > 1:
        yield widths
    steps = []
    for width in set(widths):
        place = space.mlp_widths.index(width)
        steps += [(width, other) for other in space.mlp_widths[max(0, place - 1) : place + 2] if other != width]
    steps.sort()
    rng.shuffle(steps)
    for width, other in steps:
        changed = widths.copy()
        changed[changed.index(width)] = other
        yield changed
