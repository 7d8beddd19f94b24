"""Bayesian optimisation of the whole front: the networks by which the front is expected to gain most.

The posterior of a monotone additive model (`MonotoneRidge`) says how accurate networks may be. Candidates are the
networks on the fronts of models drawn from it; of them a generation takes, one after the other, the one that adds most
hypervolume on average over draws; of networks that add about as much, the one that shares most layers with one taken
before, which are then computed once. Networks that were measured count with what each draw says of them, not with the
accuracy that was measured, which is noisy: noisy expected hypervolume improvement (Daulton 2021, arXiv 2105.08195).
"""

import numpy as np

from services.coordinator.estimates import accuracies_by_sureness, groups_of
from services.coordinator.genomes import IntArray
from services.coordinator.monotone_ridge import AdditiveModels, MonotoneRidge
from services.coordinator.pareto import non_dominated
from services.coordinator.strategies.exact_front import best_by_counts, has_few_counts
from services.coordinator.strategies.hypervolume_choice import most_hypervolume
from services.coordinator.strategies.inner_search import promising_genomes
from services.coordinator.strategies.predicting import PredictingStrategy
from services.coordinator.strategies.stratified_sampling import ENUMERABLE
from shared.space import Genome

DRAWS = 24
"""Models over which hypervolume is averaged."""
FRONTS = 8
"""Of these draws, those whose fronts are candidates, beside that of the most probable model."""
ONE_DRAWN_OF = 6
"""Of so many networks one is drawn at random."""


class BayesianOptimisation(PredictingStrategy):
    """Each generation is what adds most expected hypervolume, whatever its size; and a few networks drawn at random, on
    which the predictor can be judged: of what it chose, size alone orders most."""

    def _propose(self, count: int, rng: np.random.Generator) -> IntArray:
        measured, _, _ = self._measured()
        networks = self._measured_networks
        accuracies, groups = accuracies_by_sureness(networks), groups_of(networks)
        self._predictor = predictor = MonotoneRidge(self._encoding, measured, accuracies, groups)
        draws = predictor.draw(DRAWS, rng)
        candidates = self._candidates(predictor, draws.some(slice(FRONTS)), measured, rng)
        # Networks that are being measured will be known, too; those that failed won't.
        known = self._encoding.array([genome for genome in sorted(self._known) if not self._failed(genome)])
        genomes = np.vstack([known, candidates])
        drawn = (len(self._known) + count) // ONE_DRAWN_OF - len(self._known) // ONE_DRAWN_OF
        layers = self._encoding.layers(genomes)
        chosen = most_hypervolume(
            self._costs.of_genomes(genomes), draws.predict(genomes), len(known), count - drawn, layers
        )
        return genomes[chosen]

    def _failed(self, genome: Genome) -> bool:
        return genome in self._evaluated and self._evaluated[genome].accuracy is None

    def _candidates(
        self, predictor: MonotoneRidge, draws: AdditiveModels, measured: IntArray, rng: np.random.Generator
    ) -> IntArray:
        """The unknown networks on the front of unknown ones by one of the draws or the predictor, shape (networks,
        genes)."""
        models = predictor.mode.joined(draws)
        by_counts = self._costs.same_everywhere and has_few_counts(self._encoding)
        if by_counts and self._encoding.space.networks > ENUMERABLE:
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
