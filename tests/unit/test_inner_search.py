"""Searching on predictions where there are too many networks to list, and too many widths for exact fronts."""

import numpy as np
import pytest

from services.coordinator.cost_model import CostModel
from services.coordinator.evaluated import Evaluated
from services.coordinator.genomes import Encoding, FloatArray, IntArray
from services.coordinator.pareto import ReferencePoint, hypervolume
from services.coordinator.strategies import bayesian, inner_search, make_strategy
from services.coordinator.strategies.exact_front import best_by_counts, has_few_counts
from services.coordinator.strategies.inner_search import promising_genomes
from services.coordinator.strategies.stratified_sampling import ENUMERABLE, stratified_sample
from shared.settings import StrategySettings
from shared.space import SearchSpace
from tests.support.networks import uniform_network

SHAPE = uniform_network(layers=8, mlp_width=1536, hidden=576, heads=9, kv_heads=3, vocab_size=1000)
SPACE = SearchSpace(SHAPE, (8, 7, 6, 5), (1536, 1280, 1024, 896, 768, 512), (3, 5, 1))
ENCODING, COSTS = Encoding(SPACE), CostModel(SPACE, ("parameters",), "bfloat16")


class Additive:
    """Each layer loses something with each step of width, and more when it is left out."""

    name = "additive"

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        layers, widths = SHAPE.depth, len(SPACE.mlp_widths)
        steps = rng.lognormal(0, 1.2, (layers, 1)) * rng.lognormal(0, 0.5, (layers, widths - 1))
        self._losses = np.hstack([np.zeros((layers, 1)), np.cumsum(steps, axis=1)])
        self._losses /= self._losses[:, -1].sum() / 0.4
        self._places = list(SPACE.places("mlp_width"))

    def predict(self, genomes: IntArray) -> FloatArray:
        kept = ENCODING.effective(genomes)[:, self._places]
        layers = np.arange(len(self._losses))
        losses = np.where(kept, self._losses[layers, genomes[:, self._places]], 1.2 * self._losses[:, -1])
        accuracies: FloatArray = 0.8 - losses.sum(axis=1)
        return accuracies


TRUTH = Additive()


@pytest.fixture(scope="module")
def whole() -> float:
    """The hypervolume of the exact front."""
    return _hypervolume(best_by_counts(ENCODING, lambda genomes: TRUTH.predict(genomes)[None])[0])


def _hypervolume(genomes: IntArray) -> float:
    largest, smallest = SPACE.largest(), ENCODING.encode([SPACE.smallest()])
    corner = ReferencePoint(COSTS.of(largest), 1.001, float(TRUTH.predict(smallest)[0]) - 0.002)
    return hypervolume(COSTS.of_genomes(genomes), TRUTH.predict(genomes), corner)


def test_nearly_the_exact_front_is_found_among_what_is_visited(whole: float) -> None:
    assert SPACE.networks > ENUMERABLE and not has_few_counts(ENCODING)
    rng = np.random.default_rng(0)
    start = stratified_sample(ENCODING, COSTS, 12, set(), rng)
    found = promising_genomes(ENCODING, COSTS, TRUTH, start, rng)
    assert (found == ENCODING.canonical(found)).all()
    assert _hypervolume(start) < 0.8 * whole < 0.99 * whole < _hypervolume(found) <= whole * (1 + 1e-9)


def test_bayesian_optimisation_does_without_exact_fronts(whole: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bayesian, "best_by_counts", None)  # it would take too long
    monkeypatch.setattr(inner_search, "GENERATIONS", 20)
    strategy = make_strategy(COSTS, StrategySettings(strategy="bayesian", population=24))
    asked = np.empty((0, ENCODING.genes), np.int64)
    for _ in range(3):
        genomes = ENCODING.encode(strategy.ask(24))
        told = zip(ENCODING.decode(genomes), COSTS.of_genomes(genomes).tolist(), TRUTH.predict(genomes), strict=True)
        strategy.tell([Evaluated(network, tuple(cost), float(accuracy)) for network, cost, accuracy in told])
        asked = np.vstack([asked, genomes])
    assert len(np.unique(asked, axis=0)) == 72
    drawn = stratified_sample(ENCODING, COSTS, len(asked), set(), np.random.default_rng(0))
    assert _hypervolume(drawn) < 0.92 * whole < 0.97 * whole < _hypervolume(asked)
