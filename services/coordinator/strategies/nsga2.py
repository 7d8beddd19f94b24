"""NSGA-II alone: no predictor, every objective measured. The yardstick for LINAS."""

import numpy as np

from services.coordinator.genomes import IntArray
from services.coordinator.strategies.evolution import Evolution
from services.coordinator.strategies.generational import Generations

MATINGS = 20
"""Times the parents are mated for one generation, if most of their children are known already."""


class Nsga2(Generations):
    """Children of the best of all networks measured so far, by rank and crowding."""

    def _propose(self, count: int, rng: np.random.Generator) -> IntArray:
        evolution = Evolution(self._encoding, self._settings.population, *self._measured(), rng)
        children = evolution.ask()
        for _ in range(MATINGS - 1):
            if len(self._unknown(children)) >= count:
                break
            children = np.vstack([children, evolution.ask()])
        return children
