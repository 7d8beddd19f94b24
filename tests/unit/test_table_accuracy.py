"""A table of measured networks as searches find it."""

import numpy as np
import pytest

from services.coordinator.genomes import Encoding
from services.coordinator.strategies import make_strategy
from shared.architecture import derive
from shared.errors import UserError
from shared.network.config import network_of
from shared.network.sizes import parameters
from shared.settings import StrategySettings
from tests.support.network_table import NetworkTable, TableSpace
from tests.support.spaces import EXAMPLE
from tests.support.table_accuracy import TableAccuracy

SPACE = TableSpace.of((1536,) * 30, (30, 29), (25, 4, 7), 768)
ITEMS = 40
_random = np.random.default_rng(0)
SOFT = _random.random((SPACE.size, ITEMS))
TABLE = NetworkTable({}, SPACE, SOFT + 0.1 * _random.standard_normal(SOFT.shape) > 0.5, SOFT)


@pytest.mark.parametrize(("count", "elastic", "depths"), [(2048, 10, 2), (2047, 10, 1), (1024, 10, 1), (300, 8, 1)])
def test_its_space_has_the_networks_that_were_measured_each_with_its_row_and_its_cost(
    count: int, elastic: int, depths: int
) -> None:
    accuracy = TableAccuracy(TABLE.first(count), 0, None)
    every = Encoding(accuracy.space).all_genomes()
    rows = accuracy.rows(every)
    assert accuracy.space.networks == len(every) and len(accuracy.space.depths) == depths
    assert sorted(rows) == list(range(depths << elastic))
    costs, network = accuracy.costs.of_genomes(every)[:, 0], network_of(EXAMPLE)
    real = np.array([parameters(derive(network, SPACE.architecture(row))) for row in rows.tolist()])
    assert len(set(real - costs)) == 1  # what all networks have besides
    layers = sorted((*SPACE.elastic[-elastic:], *((25,) if depths == 2 else ())))
    for genome, row in zip(every[::99], rows[::99].tolist(), strict=True):
        found, there = accuracy.space.architecture(genome), SPACE.architecture(row)
        widths = dict(zip(there.layers, there.mlp_widths, strict=True))
        assert {layers[place] for place in found.layers} == widths.keys() & set(layers)
        assert found.mlp_widths == tuple(widths[layers[place]] for place in found.layers)


def test_a_table_of_few_networks_is_refused() -> None:
    with pytest.raises(UserError, match="has only 63 networks; `make bench-table` measures the others"):
        TableAccuracy(TABLE.first(63), 0, None)


def test_what_is_true_is_of_other_items_than_what_is_read() -> None:
    accuracy = TableAccuracy(TABLE, 3, ITEMS // 2)
    every = Encoding(accuracy.space).all_genomes()
    correct, sureness = accuracy.answers(every)
    both = (correct.mean(axis=1) + accuracy.exact(every)) / 2
    assert both == pytest.approx(TABLE.correct.mean(axis=1)[accuracy.rows(every)])
    fewer, _ = TableAccuracy(TABLE, 3, 5).answers(every)
    assert (fewer == correct[:, :5]).all() and sureness.shape == correct.shape
    assert (TableAccuracy(TABLE, 4, ITEMS // 2).answers(every)[0] != correct).any()
    with pytest.raises(UserError, match="21 items: a search may read 20 of the table's 40"):
        TableAccuracy(TABLE, 3, ITEMS // 2 + 1)


def test_each_network_is_measured_on_its_slice_of_the_items() -> None:
    accuracy = TableAccuracy(TABLE, 0, 20, 4)
    genomes = Encoding(accuracy.space).all_genomes()[:60]
    correct, sureness = accuracy.answers(genomes)
    evaluated = accuracy.measure(genomes)
    assert {one.items for one in evaluated} == {"0", "5", "10", "15"} and accuracy.items_each == 5
    for index, one in enumerate(evaluated):
        own = slice(int(one.items), int(one.items) + 5)
        assert (one.accuracy, one.sureness) == (correct[index, own].mean(), tuple(sureness[index, own]))


def test_a_search_that_measured_everything_has_all_and_the_smallest_network_alone_nothing() -> None:
    accuracy = TableAccuracy(TABLE, 0, ITEMS // 2)
    encoding = Encoding(accuracy.space)
    every = encoding.all_genomes()
    costs, exact = accuracy.costs.of_genomes(every), accuracy.exact(every)
    chosen_by = accuracy.answers(every)[0].mean(axis=1)
    assert accuracy.share(costs, chosen_by, exact) == pytest.approx(1)
    smallest = (every == encoding.encode([accuracy.space.smallest()])).all(axis=1)
    assert accuracy.share(costs[smallest], chosen_by[smallest], exact[smallest]) == 0
    # A network that nobody would choose is worth nothing, however lucky it is.
    worst = np.where(np.arange(len(every)) == chosen_by.argmin(), 1.0, exact)
    assert accuracy.share(costs, chosen_by, worst) == pytest.approx(1)


def test_a_strategy_measures_each_of_its_networks_once() -> None:
    accuracy = TableAccuracy(TABLE.first(1024), 0, 10)
    strategy = make_strategy(accuracy.costs, StrategySettings(strategy="bayesian", population=20))
    encoding, seen = Encoding(accuracy.space), set[int]()
    for _ in range(3):
        genomes = encoding.encode(strategy.ask(20))
        seen |= set(accuracy.rows(genomes).tolist())
        strategy.tell(accuracy.measure(genomes))
    assert len(seen) == 60
