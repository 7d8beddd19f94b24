"""Which sub-networks a fine-tuning trains: what `training.sampling` says."""

import random
from collections.abc import Callable, Mapping

import numpy as np

from shared.architecture import Architecture, dense
from shared.genome_draws import genomes_of_all_sizes
from shared.settings import TrainingSettings
from shared.settings.sections import SubnetSampling
from shared.space import SearchSpace

ROUND = 8
"""Sub-networks of which two are ends of the range of sizes, and each of the others comes from a part of its own."""
STRATA = ROUND - 2
DRAWS = 64
"""Networks to choose from for a part of the range. The nearest is taken if none lies in it."""

SubnetsOfStep = Callable[[int], list[Architecture]]
"""The sub-networks of a step, `subnets_per_step` of them: a function of its number and the seed."""


def subnets_of_step(space: SearchSpace, settings: TrainingSettings) -> SubnetsOfStep:
    """By the way of sampling that settings ask for, all in full precision."""
    return SAMPLINGS[settings.sampling](space, settings)


def _uniform(space: SearchSpace, settings: TrainingSettings) -> SubnetsOfStep:
    """From genes drawn uniformly, as InstaTune has it (arXiv 2308.15609)."""

    def of_step(step: int) -> list[Architecture]:
        seeds = [
            f"{settings.seed}/{step}",
            *(f"{settings.seed}/{step}/{n}" for n in range(1, settings.subnets_per_step)),
        ]
        return [space.sample(random.Random(seed)) for seed in seeds]

    return of_step


def _stratified(space: SearchSpace, settings: TrainingSettings) -> SubnetsOfStep:
    """Over the whole range of sizes, with both ends (the sandwich rule, arXiv 1903.05134).

    Of each ROUND sub-networks one is the smallest and one the largest; where that is the whole network, which other
    steps train anyway, it is the smallest again. The rest of the range, in parameters, is cut into equal strata,
    and one network drawn from each, in random order. Of several orders in which layers leave, each has its turn in
    making the ends.
    """
    smallest, largest = (end.quantized("none") for end in (space.smallest(), space.largest()))
    low, high = space.parameters(smallest), space.parameters(largest)
    ends = (space.smallest, space.smallest if largest == dense(space.network) else space.largest)

    def of_number(number: int) -> Architecture:
        turn, place = divmod(number, ROUND)
        half, place = divmod(place, ROUND // 2)
        if place == 0:
            return ends[half](order=(turn + half) % len(space.drop_orders)).quantized("none")
        order = random.Random(f"{settings.seed}/strata/{turn}").sample(range(STRATA), STRATA)
        stratum = order[half * STRATA // 2 + place - 1]
        least, most = (low + (high - low) * edge / STRATA for edge in (stratum, stratum + 1))
        rng = np.random.default_rng(random.Random(f"{settings.seed}/stratum/{number}").getrandbits(63))
        return _of_size(space, least, most, rng)

    def of_step(step: int) -> list[Architecture]:
        before = step - step // settings.full_every - 1  # steps that trained sub-networks
        first = before * settings.subnets_per_step
        return [of_number(number) for number in range(first, first + settings.subnets_per_step)]

    return of_step


def _of_size(space: SearchSpace, least: float, most: float, rng: np.random.Generator) -> Architecture:
    """A random network with so many parameters, or the one of DRAWS that is nearest to that."""
    found: list[tuple[float, Architecture]] = []
    for genome in genomes_of_all_sizes(space, DRAWS, rng).tolist():
        drawn = space.architecture(genome).quantized("none")
        size = space.parameters(drawn)
        if least <= size <= most:
            return drawn
        found.append((max(least - size, size - most), drawn))
    return min(found, key=lambda each: each[0])[1]


SAMPLINGS: Mapping[SubnetSampling, Callable[[SearchSpace, TrainingSettings], SubnetsOfStep]] = {
    "uniform": _uniform,
    "stratified": _stratified,
}
