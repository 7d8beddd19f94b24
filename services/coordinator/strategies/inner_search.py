"""Networks worth looking at by a predictor: all of a small space, else what NSGA-II visits on predictions, as in LINAS
(arXiv 2205.10358)."""

import numpy as np

from services.coordinator.cost_model import CostModel
from services.coordinator.genomes import Encoding, FloatArray, IntArray
from services.coordinator.strategies.evolution import Evolution
from services.coordinator.strategies.predicting import AccuracyPredictor
from services.coordinator.strategies.stratified_sampling import ENUMERABLE, random_genomes

POPULATION = 200
"""Networks of the inner search: several generations of the outer one, for a front that is dense over all costs."""
GENERATIONS = 100
"""With `POPULATION`, 20 000 predicted networks, as the authors use: about a second."""


def promising_genomes(
    encoding: Encoding, costs: CostModel, predictor: AccuracyPredictor, measured: IntArray, rng: np.random.Generator
) -> IntArray:
    """Canonical genomes over all costs, the predicted front among them, shape (about 20 000 or all, genes); `measured`
    are those that the search starts from, shape (networks, genes)."""
    if encoding.space.networks <= ENUMERABLE:
        return encoding.all_genomes()

    def objectives(genomes: IntArray) -> tuple[FloatArray, FloatArray]:
        return costs.of_genomes(genomes), predictor.predict(genomes)

    # With random networks beside the measured ones: otherwise the inner search would only refine what is known.
    start = np.unique(np.vstack([measured, random_genomes(encoding, POPULATION, rng)]), axis=0)
    evolution = Evolution(encoding, POPULATION, start, *objectives(start), rng)
    visited = [start]
    for _ in range(GENERATIONS - 1):
        children = evolution.ask()
        if not len(children):
            break
        evolution.tell(*objectives(children))
        visited.append(children)
    return np.vstack(visited)
