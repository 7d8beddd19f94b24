"""Which networks are expected to add most hypervolume."""

from dataclasses import replace

import numpy as np
import pytest

from services.coordinator.genomes import Encoding
from services.coordinator.pareto import ReferencePoint, hypervolume
from services.coordinator.strategies.hypervolume_choice import ABOUT_AS_MUCH, LIMITS, most_hypervolume
from tests.support.synthetic import SPACES


def _points(seed: int, count: int, objectives: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    costs = rng.random((count, objectives))
    costs[:2] = [[0.0] * objectives, [1.0] * objectives]
    accuracies = rng.random((1, count))
    accuracies[0, 0] = 0
    return costs, accuracies


@pytest.mark.parametrize("seed", range(8))
def test_with_one_draw_each_network_is_the_one_that_adds_most(seed: int) -> None:
    costs, accuracies = _points(seed, 12, objectives=1)
    chosen = most_hypervolume(costs, accuracies, known=3, count=5)
    assert len(set(chosen)) == 5 and min(chosen) >= 3
    reference = ReferencePoint((1.0,), 1.0, 0.0)
    for position, taken in enumerate(chosen):
        before = [0, 1, 2, *chosen[:position]]
        volumes = {
            index: hypervolume(costs[[*before, index]], accuracies[0, [*before, index]], reference)
            for index in range(3, 12)
            if index not in before
        }
        assert volumes[taken] >= max(volumes.values()) - 2 / LIMITS


def test_what_is_known_already_adds_nothing_and_what_is_dominated_comes_last() -> None:
    costs = np.array([[0.0], [1.0], [0.5], [0.5], [0.6], [0.25]])
    accuracies = np.array([[0.1, 0.9, 0.5, 0.6, 0.55, 0.2]])
    assert most_hypervolume(costs, accuracies, known=3, count=10) == [3, 5, 4]


def test_an_average_over_draws_decides() -> None:
    costs = np.array([[0.0], [1.0], [0.5], [0.5]])
    sure, unsure = [0.5, 0.5, 0.5], [0.1, 0.1, 1.0]
    accuracies = np.array([[0.4] * 3, [0.9] * 3, sure, unsure]).T
    # A network that may be much better is worth more than one that is a little better for certain.
    assert most_hypervolume(costs, accuracies, known=2, count=1) == [3]


def test_in_several_dimensions_a_network_counts_within_all_its_costs() -> None:
    costs = np.array([[0.0, 0.0], [1.0, 1.0], [0.1, 0.95], [0.5, 0.5], [0.6, 0.6]])
    accuracies = np.array([[0.0, 1.0, 0.5, 0.5, 0.5]])
    assert most_hypervolume(costs, accuracies, known=2, count=2) == [3, 2]


def test_there_may_be_fewer_candidates_than_are_wanted() -> None:
    costs, accuracies = _points(0, 4, objectives=2)
    assert sorted(most_hypervolume(costs, accuracies, known=2, count=9)) == [2, 3]
    assert most_hypervolume(costs, accuracies, known=4, count=9) == []


def test_of_networks_that_add_about_as_much_that_one_is_taken_which_shares_most_layers() -> None:
    costs = np.array([[0.0], [1.0], [0.2], [0.6], [0.61], [0.62]])
    accuracies = np.array([[0.0, 0.9, 0.8, 0.85, 0.85, 0.81]])
    layers = np.array([[0, 1, 1, 1]] * 2 + [[0, 1, 2, 0], [0, 2, 2, 1], [0, 1, 1, 1], [0, 1, 2, 1]])
    alone = most_hypervolume(costs, accuracies, known=2, count=2)
    together = most_hypervolume(costs, accuracies, known=2, count=2, layers=layers)
    assert (alone, together) == ([2, 3], [2, 4])  # the last shares more, but adds much less
    assert 0.8 < ABOUT_AS_MUCH < 1


def test_layers_that_are_left_out_are_not_shared_and_other_quantizations_share_nothing() -> None:
    encoding = Encoding(SPACES["S1"])
    genomes = np.zeros((4, encoding.genes), np.int64)
    genomes[1, encoding.space.place("depth")] = 2
    genomes[2, encoding.space.places("mlp_width")[3]] = 1
    genomes[3, encoding.space.places("quantization")[0]] = 1
    layers = encoding.layers(genomes)
    assert layers.shape == (4, 31) and layers[:, 0].tolist() == [0, 0, 0, -1]
    assert (layers[1, 1:] == 0).sum() == 2 and layers[2, 1:6].tolist() == [1, 1, 1, 2, 1]
    # Each width without attention is another layer.
    space = replace(SPACES["S1"], attentions=("keep", "skip"))
    skipping = np.zeros((2, len(space.genes)), np.int64)
    skipping[:, space.places("attention")[1]] = 1
    skipping[1, space.places("mlp_width")[1]] = 1
    widths = len(space.mlp_widths)
    assert Encoding(space).layers(skipping)[:, 1:4].tolist() == [[1, 1 + widths, 1], [1, 2 + widths, 1]]
