"""Random networks of every cost: the first generation, and whatever fills up later ones."""

from collections.abc import Set as AbstractSet
from itertools import cycle

import numpy as np

from services.coordinator.cost_model import CostModel
from services.coordinator.genomes import Encoding, FloatArray, IntArray, rows
from shared.genome_draws import genomes_of_all_sizes
from shared.space import Genome

ENUMERABLE = 20_000
"""Spaces of up to this many networks are listed rather than sampled."""
DRAWS_PER_NETWORK = 40
"""Draws to choose from for each network wanted: enough to find networks for the rare sizes at both ends."""


def stratified_sample(
    encoding: Encoding, costs: CostModel, count: int, known: AbstractSet[Genome], rng: np.random.Generator
) -> IntArray:
    """`count` distinct canonical genomes not in `known`, shape (networks, genes); fewer if the space has no more.

    First come the largest and the smallest network of each depth, by the orders in which layers leave in turn, so that
    several orders don't make them more. For the rest the range of the first cost is cut into as many equal strata as
    networks are wanted: one network is drawn from each at random, and further ones from others instead of empty strata.
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
    return encoding.canonical(genomes_of_all_sizes(encoding.space, count, rng))


def _ends(encoding: Encoding) -> list[Genome]:
    """The largest network of each depth and the smallest, which is in INT8 where that can be chosen: both ends of the
    whole range first. The orders in which layers leave take turns."""
    space = encoding.space
    orders = cycle(range(len(space.drop_orders)))
    ends = [
        end
        for deep, shallow, order in zip(space.depths, reversed(space.depths), orders, strict=False)
        for end in (space.largest(deep, order), space.smallest(shallow, order))
    ]
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
