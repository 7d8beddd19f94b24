"""Random search: the control. Networks of every size in each generation, whatever was measured."""

import numpy as np

from services.coordinator.genomes import IntArray
from services.coordinator.strategies.generational import GenerationalStrategy


class RandomSearch(GenerationalStrategy):
    """Proposes nothing, so that each generation is a stratified random sample."""

    def _propose(self, count: int, rng: np.random.Generator) -> IntArray:
        return np.empty((0, self._encoding.genes), dtype=np.int64)
