"""LINAS (arXiv 2205.10358): a predictor learns from everything measured, and NSGA-II searches on its predictions.

Differences from the authors' code: costs are computed, not predicted; networks are compared by their canonical genomes;
a generation is chosen from all networks that were predicted, not only the last population, so that it is always full.
"""

import numpy as np

from services.coordinator.genomes import IntArray
from services.coordinator.pareto import select_best
from services.coordinator.predictors import Predictor
from services.coordinator.strategies.inner_search import promising_genomes
from services.coordinator.strategies.predicting import PredictingStrategy


class Linas(PredictingStrategy):
    """Each generation is the part of the predicted front that was not measured yet, evenly spread over the costs."""

    def _propose(self, count: int, rng: np.random.Generator) -> IntArray:
        genomes, _, accuracies = self._measured()
        self._predictor = predictor = Predictor(self._encoding, genomes, accuracies)
        candidates = promising_genomes(self._encoding, self._costs, predictor, genomes, rng)
        unknown = self._encoding.array(self._unknown(candidates))
        predicted = predictor.predict(unknown)
        return unknown[select_best(self._costs.of_genomes(unknown), predicted, count)]
