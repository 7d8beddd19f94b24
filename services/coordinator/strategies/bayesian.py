"""Bayesian optimisation of the whole front: the networks by which the front is expected to gain most.

The posterior of a monotone additive model (`MonotoneRidge`) says how accurate networks may be. Candidates are the
networks on the fronts of models drawn from it; of them a generation takes, one after the other, the one that adds most
hypervolume on average over draws. Networks that were measured count with what each draw says of them, not with the
accuracy that was measured, which is noisy: noisy expected hypervolume improvement (Daulton 2021, arXiv 2105.08195).
"""

import numpy as np
from scipy.stats.qmc import Halton

from services.coordinator.estimates import accuracies_by_sureness
from services.coordinator.genomes import FloatArray, IntArray
from services.coordinator.monotone_ridge import AdditiveModels, MonotoneRidge
from services.coordinator.pareto import non_dominated
from services.coordinator.strategies.exact_front import best_by_counts, has_few_counts
from services.coordinator.strategies.inner_search import promising_genomes
from services.coordinator.strategies.predicting import PredictingStrategy
from services.coordinator.strategies.stratified_sampling import ENUMERABLE
from shared.space import Genome

DRAWS = 24
"""Models over which hypervolume is averaged."""
FRONTS = 8
"""Of these draws, those whose fronts are candidates, beside that of the most probable model."""
LIMITS = 256
"""Limits to costs over which accuracies are averaged: that is the hypervolume."""
CHOSEN_PER_DRAWN = 6
"""Of so many networks one is drawn at random."""
DECIMALS = 12
"""Gains are rounded, so that the last bit decides nothing."""


class BayesianOptimisation(PredictingStrategy):
    """Each generation is what adds most expected hypervolume, whatever its size; and a few networks drawn at random, on
    which the predictor can be judged: of what it chose, size alone orders most."""

    def _propose(self, count: int, rng: np.random.Generator) -> IntArray:
        measured, _, _ = self._measured()
        accuracies = accuracies_by_sureness(self._measured_networks)
        self._predictor = predictor = MonotoneRidge(self._encoding, measured, accuracies)
        draws = predictor.draw(DRAWS, rng)
        candidates = self._candidates(predictor, draws.some(slice(FRONTS)), measured, rng)
        # Networks that are being measured will be known, too; those that failed won't.
        known = self._encoding.array([genome for genome in sorted(self._known) if not self._failed(genome)])
        genomes = np.vstack([known, candidates])
        wanted = count - count // CHOSEN_PER_DRAWN
        chosen = most_hypervolume(self._costs.of_genomes(genomes), draws.predict(genomes), len(known), wanted)
        return genomes[chosen]

    def _failed(self, genome: Genome) -> bool:
        return genome in self._evaluated and self._evaluated[genome].accuracy is None

    def _candidates(
        self, predictor: MonotoneRidge, draws: AdditiveModels, measured: IntArray, rng: np.random.Generator
    ) -> IntArray:
        """The unknown networks on the front of unknown ones by one of the draws or the predictor, shape (networks,
        genes)."""
        models = predictor.mode.joined(draws)
        if self._encoding.space.networks > ENUMERABLE and has_few_counts(self._encoding):
            searched = [self._unknown(genomes) for genomes in best_by_counts(self._encoding, models.predict)]
        else:
            visited = promising_genomes(self._encoding, self._costs, predictor, measured, rng)
            searched = [self._unknown(visited)] * len(models.largest)
        found: dict[Genome, None] = {}
        for index, genomes in enumerate(searched):
            unknown = self._encoding.array(genomes)
            (accuracies,) = models.some(slice(index, index + 1)).predict(unknown)
            front = non_dominated(self._costs.of_genomes(unknown), accuracies)
            found |= dict.fromkeys(genomes[place] for place in front)
        return self._encoding.array(list(found))


def most_hypervolume(costs: FloatArray, accuracies: FloatArray, known: int, count: int) -> list[int]:
    """Indices of `count` networks (or all) that add most hypervolume to the first `known`, the best first.

    `costs` has shape (networks, objectives), `accuracies` (draws, networks); hypervolume is averaged over draws. It is
    the accuracy of the best network within limits to the costs, averaged over all limits.
    """
    low, high = costs.min(axis=0), costs.max(axis=0)
    limits = low + (high - low) * Halton(costs.shape[1], scramble=False).random(LIMITS)
    within = (costs[:, None, :] <= limits).all(axis=2)
    accuracies = np.ascontiguousarray(accuracies.T)  # (networks, draws)
    best = np.repeat(accuracies.min(axis=0)[:, None], LIMITS, axis=1)

    def take(index: int) -> None:
        best[:, within[index]] = np.maximum(best[:, within[index]], accuracies[index, :, None])

    for index in range(known):
        take(index)

    def gain(index: int) -> float:
        return round(float(np.maximum(accuracies[index, :, None] - best[:, within[index]], 0).sum()), DECIMALS)

    gains = np.array([-np.inf] * known + [gain(index) for index in range(known, len(costs))])
    chosen: list[int] = []
    while len(chosen) < min(count, len(costs) - known):
        index = int(gains.argmax())
        # What a network adds only falls as others are chosen.
        current = gain(index)
        if current < gains[index]:
            gains[index] = current
            continue
        chosen.append(index)
        gains[index] = -np.inf
        take(index)
    return chosen
