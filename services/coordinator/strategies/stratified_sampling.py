"""Random networks of every cost: the first generation, and whatever fills up later ones.

Genes drawn uniformly make networks of nearly the same size (a sum of many draws): neither end of the range is
sampled.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet

import numpy as np

from services.coordinator.cost_model import CostModel
from services.coordinator.genomes import Encoding, FloatArray, IntArray, rows
from shared.space import GeneKind, Genome

ENUMERABLE = 20_000
"""Spaces of up to this many networks are listed rather than sampled."""
DRAWS_PER_NETWORK = 40
"""Draws to choose from for each network wanted: enough to find networks for the rare sizes at both ends."""


def stratified_sample(
    encoding: Encoding, costs: CostModel, count: int, known: AbstractSet[Genome], rng: np.random.Generator
) -> IntArray:
    """`count` distinct canonical genomes not in `known`, shape (networks, genes); fewer if the space has no more.

    First come the largest and the smallest network of each depth. For the rest the range of the first cost is cut
    into as many equal strata as networks are wanted: one network is drawn from each at random, and further ones from
    others instead of empty strata.
    """
    every_end = _ends(encoding)
    ends = [genome for genome in every_end if genome not in known][:count]
    wanted = count - len(ends)
    pool = _unknown_genomes(encoding, wanted, known | set(ends), rng) if wanted > 0 else []
    end_costs, pool_costs = (costs.of_genomes(encoding.array(genomes))[:, 0] for genomes in (every_end, pool))
    chosen = ends + [pool[index] for index in _one_of_each_stratum(pool_costs, end_costs, wanted)]
    return encoding.array(chosen)


def random_genomes(encoding: Encoding, count: int, rng: np.random.Generator) -> IntArray:
    """`count` random canonical genomes spread over depths and sizes, shape (count, genes); some may be equal."""
    space = encoding.space
    genomes = np.zeros((count, encoding.genes), dtype=np.int64)
    for kind in dict.fromkeys(gene.kind for gene in space.genes):
        places = space.places(kind)
        genomes[:, places] = DRAWING[kind](space.genes[places[0]].choices, (count, len(places)), rng)
    return encoding.canonical(genomes)


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
    "mlp_width": _around_an_average,
    "quantization": _uniform,
}
"""How each kind of gene is drawn, from its number of choices and the shape (networks, genes of the kind)."""


def _ends(encoding: Encoding) -> list[Genome]:
    """The largest network of each depth and the smallest, which is in INT8 where that can be chosen: both ends of the
    whole range first."""
    space = encoding.space
    pairs = zip(space.depths, reversed(space.depths), strict=True)
    ends = [end for deep, shallow in pairs for end in (space.largest(deep), space.smallest(shallow))]
    return list(dict.fromkeys(space.genome(end) for end in ends))


def _unknown_genomes(
    encoding: Encoding, count: int, known: AbstractSet[Genome], rng: np.random.Generator
) -> list[Genome]:
    """At least `count` distinct networks that are not known, in random order; all of them in a small space."""
    networks = encoding.space.networks
    # Where most networks are known, random draws would hardly ever find another.
    if networks <= max(ENUMERABLE, 2 * (len(known) + count)):
        return [genome for genome in rows(rng.permutation(encoding.all_genomes())) if genome not in known]
    pool: dict[Genome, None] = {}
    while len(pool) < count:
        drawn = rows(random_genomes(encoding, DRAWS_PER_NETWORK * count, rng))
        pool |= {genome: None for genome in drawn if genome not in known}
    return list(pool)


def _one_of_each_stratum(values: FloatArray, ends: FloatArray, count: int) -> list[int]:
    """Indices of `count` of the values (or all), from as many strata between the least and the greatest end."""
    if not len(values):
        return []
    low, high = float(ends.min()), float(ends.max())
    # A value on the border of two strata belongs to the lower one.
    strata = np.ceil((values - low) * count / ((high - low) or 1.0)).clip(1, count)
    members: dict[float, int] = {}
    turns = []
    for stratum in strata.tolist():
        turns.append(members.setdefault(stratum, 0))
        members[stratum] += 1
    return sorted(range(len(values)), key=lambda index: (turns[index], index))[:count]
