"""NSGA-II alone: no predictor, every objective measured. The baseline for LINAS."""

import numpy as np

from services.coordinator.genomes import IntArray
from services.coordinator.strategies.evolution import Evolution
from services.coordinator.strategies.generational import GenerationalStrategy

MAX_MATINGS = 20
"""How often parents are mated for one generation at most, if many of their children are known already."""


class Nsga2(GenerationalStrategy):
    """Children of the best of all networks measured so far, by rank and crowding."""

    def _propose(self, count: int, rng: np.random.Generator) -> IntArray:
        evolution = Evolution(self._encoding, self._settings.population, *self._measured(), rng)
        children = evolution.ask()
        for _ in range(MAX_MATINGS - 1):
            if len(self._unknown(children)) >= count:
                break
            children = np.vstack([children, evolution.ask()])
        return children
