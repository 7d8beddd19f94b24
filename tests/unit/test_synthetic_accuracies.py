"""What the benchmark of strategies measures by: functions with known fronts, and searches driven in one way."""

import numpy as np
import pytest

from services.coordinator.genomes import Encoding, rows
from services.coordinator.pareto import non_dominated
from services.coordinator.strategies.stratified_sampling import random_genomes
from tests.support.search_peers import SEARCHERS, missing
from tests.support.synthetic import FunctionName, SpaceName, SyntheticAccuracy


@pytest.mark.parametrize(("function", "space"), [("A", "S1"), ("B", "S2"), ("C", "S2")])
def test_no_network_is_beyond_the_front(function: FunctionName, space: SpaceName) -> None:
    accuracy = SyntheticAccuracy(function, space, 0, None)
    encoding = Encoding(accuracy.space)
    drawn = random_genomes(encoding, 300, np.random.default_rng(0))
    both = np.vstack([accuracy.front, drawn])
    costs, expected = accuracy.costs.of_genomes(both), accuracy.expected(both)
    assert max(non_dominated(costs, expected)) < len(accuracy.front)
    front = slice(len(accuracy.front))
    assert accuracy.share(costs[front], expected[front], expected[front]) == pytest.approx(1)
    rest = slice(len(accuracy.front), None)
    assert 0.3 < accuracy.share(costs[rest], expected[rest], expected[rest]) < 0.9


def test_what_is_measured_errs_as_items_do_and_less_the_more_there_are() -> None:
    drawn = random_genomes(Encoding(SyntheticAccuracy("B", "S1", 0, None).space), 40, np.random.default_rng(0))
    for items in (100, 4000):
        accuracy = SyntheticAccuracy("B", "S1", 0, items)
        errors = accuracy.measured(drawn) - accuracy.exact(drawn)
        assert (accuracy.measured(drawn) == accuracy.measured(drawn)).all()
        # Most of an error is what all networks share: some questions are hard.
        assert np.abs(errors).max() < 4 * 0.5 / items**0.5
        assert 0 < errors.std() < 0.3 / items**0.5


@pytest.mark.parametrize(
    "name", [name for name in SEARCHERS if "linas" not in name and name != "optuna-gp"]
)  # slow ones
def test_every_search_asks_for_networks_of_the_space_and_goes_on_when_it_is_told(name: str) -> None:
    if missing([name]):
        pytest.skip("optuna isn't installed")
    accuracy = SyntheticAccuracy("A", "S2", 0, None)
    searcher, encoding = SEARCHERS[name](accuracy.costs, 0), Encoding(accuracy.space)
    for _ in range(2):
        genomes = searcher.ask(5)
        assert 1 <= len(genomes) <= 5
        assert rows(encoding.encode(encoding.decode(genomes))) == rows(genomes)
        searcher.tell(accuracy.measure(genomes))
