"""LINAS (arXiv 2205.10358): a predictor learns from everything measured, and NSGA-II searches on its predictions.

Differences from the authors' code: costs are computed, not predicted; networks are compared by their canonical genomes;
a generation is chosen from all networks that were predicted, not only the last population, so that it is always full.
"""

from collections.abc import Mapping

import numpy as np

from services.coordinator.cost_model import CostModel
from services.coordinator.genomes import IntArray
from services.coordinator.pareto import select_best
from services.coordinator.predictors import Predictor
from services.coordinator.strategies.generational import GenerationalStrategy
from services.coordinator.strategies.inner_search import promising_genomes
from shared.architecture import Architecture
from shared.settings import StrategySettings


class Linas(GenerationalStrategy):
    """Each generation is the part of the predicted front that was not measured yet, evenly spread over the costs."""

    def __init__(self, costs: CostModel, settings: StrategySettings) -> None:
        super().__init__(costs, settings)
        self._predictor: Predictor | None = None
        self._predictions: dict[Architecture, float] = {}

    @property
    def predictions(self) -> Mapping[Architecture, float]:
        return self._predictions

    @property
    def predictor_name(self) -> str | None:
        return None if self._predictor is None else self._predictor.name

    def ask(self, limit: int) -> list[Architecture]:
        architectures = super().ask(limit)
        if self._predictor is not None:
            predicted = self._predictor.predict(self._encoding.encode(architectures))
            self._predictions = dict(zip(architectures, predicted.tolist(), strict=True))
        return architectures

    def _propose(self, count: int, rng: np.random.Generator) -> IntArray:
        genomes, _, accuracies = self._measured()
        self._predictor = Predictor(self._encoding, genomes, accuracies)
        candidates = promising_genomes(self._encoding, self._costs, self._predictor, genomes, rng)
        unknown = self._encoding.array(self._unknown(candidates))
        predicted = self._predictor.predict(unknown)
        return unknown[select_best(self._costs.of_genomes(unknown), predicted, count)]
