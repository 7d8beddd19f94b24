"""Random genomes of networks of all sizes.

Genes drawn uniformly make networks of nearly the same size (a sum of many draws): neither end of the range is
sampled.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from shared.space import GeneKind, SearchSpace

IntArray = NDArray[np.int64]


def genomes_of_all_sizes(space: SearchSpace, count: int, rng: np.random.Generator) -> IntArray:
    """`count` random genomes spread over depths and sizes, shape (count, genes), whose genes without effect have random
    values too."""
    genomes = np.zeros((count, len(space.genes)), dtype=np.int64)
    for kind in dict.fromkeys(gene.kind for gene in space.genes):
        places = space.places(kind)
        genomes[:, places] = DRAWING[kind](space.genes[places[0]].choices, (count, len(places)), rng)
    return genomes


def _uniform(choices: int, size: tuple[int, int], rng: np.random.Generator) -> IntArray:
    return rng.integers(choices, size=size)


def _around_an_average(choices: int, size: tuple[int, int], rng: np.random.Generator) -> IntArray:
    """Values of the genes of layers, shape (networks, layers).

    Each network draws how narrow it is on average, uniformly; each layer draws its own tendency around that (a beta
    distribution) and its value from the tendency (a binomial one). For a network of medium size that makes all values
    equally probable in each layer, as uniform genes would.
    """
    narrowness = rng.uniform(1e-3, 1 - 1e-3, size=(size[0], 1))
    tendency = rng.beta(2 * narrowness, 2 * (1 - narrowness), size=size)
    return rng.binomial(choices - 1, tendency)


DRAWING: dict[GeneKind, Callable[[int, tuple[int, int], np.random.Generator], IntArray]] = {
    "depth": _uniform,
    "drop_order": _uniform,
    "mlp_width": _around_an_average,
    "attention": _around_an_average,
    "quantization": _uniform,
}
"""How each kind of gene is drawn, from its number of choices and the shape (networks, genes of the kind)."""
