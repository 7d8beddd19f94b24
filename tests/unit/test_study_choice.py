"""What a study chooses of a search, and what the best networks of a search have in common."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.coordinator.evaluated import Evaluated
from services.coordinator.study.choice import chosen_network, is_of_size, most_parameters, random_counterpart
from services.coordinator.study.heuristic import (
    best_share,
    depth_probabilities,
    heuristic_network,
    narrow_layers,
    narrow_probabilities,
    network_with_narrow,
)
from shared.architecture import Architecture
from shared.space import SearchSpace
from tests.support.networks import uniform_network

SHAPE = uniform_network(layers=6, mlp_width=48, hidden=16)
SPACE = SearchSpace(SHAPE, (6, 5, 4), (48, 24), (5, 4), ("none", "int8"))


def network(depth: int, narrow: tuple[int, ...] = (), accuracy: float | None = 0.5) -> Evaluated:
    return evaluated(network_with_narrow(SPACE, SPACE.kept_layers(depth), narrow), accuracy)


def evaluated(architecture: Architecture, accuracy: float | None) -> Evaluated:
    return Evaluated(architecture, (float(SPACE.parameters(architecture)),), accuracy)


def test_the_most_accurate_network_of_a_size_is_chosen() -> None:
    larger, of_size, worse, smaller = (
        network(6, (), 0.9),
        network(6, (1,), 0.7),
        network(6, (2,), 0.6),
        network(4, (), 0.8),
    )
    at_most = SPACE.parameters(of_size.architecture)
    assert chosen_network([larger, worse, of_size, smaller], SPACE, at_most) == of_size.architecture
    assert chosen_network([larger, smaller, worse], SPACE, int(at_most * 1.015)) == worse.architecture


def test_where_no_network_is_of_the_size_the_most_accurate_of_the_smaller_ones_is_chosen() -> None:
    large, fitting, worse = network(6, (), 0.9), network(5, (1,), 0.7), network(4, (), 0.6)
    just_too_small = int(SPACE.parameters(fitting.architecture) * 1.03)
    assert chosen_network([large, worse, fitting], SPACE, just_too_small) == fitting.architecture
    assert (
        chosen_network([large, worse, fitting], SPACE, SPACE.parameters(fitting.architecture) - 1) == worse.architecture
    )


def test_of_equally_accurate_networks_the_smallest_is_chosen_and_then_the_first() -> None:
    wide, narrow, as_narrow = network(5, (1,)), network(5, (1, 2)), network(5, (1, 3))
    at_most = 2 * SPACE.parameters(wide.architecture)  # none is of that size
    assert chosen_network([wide, narrow, as_narrow], SPACE, at_most) == narrow.architecture
    assert chosen_network([wide, as_narrow, narrow], SPACE, at_most) == as_narrow.architecture


def test_nothing_is_chosen_of_networks_that_failed_are_too_large_or_in_int8() -> None:
    failed, large = network(4, (), None), network(6, (), 0.9)
    quantized = evaluated(network(4).architecture.quantized("int8"), 0.8)
    at_most = SPACE.parameters(failed.architecture)
    assert chosen_network([failed, large, quantized], SPACE, at_most) is None
    assert chosen_network([], SPACE, at_most) is None


@given(seed=st.integers(0, 10**6), size=st.floats(1.0, 1.4))
def test_what_is_chosen_and_its_random_counterpart_have_the_size_that_is_asked_for(seed: int, size: float) -> None:
    rng = random.Random(seed)
    measured = [evaluated(SPACE.sample(rng), rng.random()) for _ in range(20)]
    at_most = most_parameters(SHAPE, size)
    chosen = chosen_network(measured, SPACE, at_most)
    fitting = [each for each in measured if SPACE.parameters(each.architecture) <= at_most]
    if chosen is None:
        assert not fitting
        return
    of_size = [each for each in fitting if is_of_size(SPACE.parameters(each.architecture), at_most)]
    best = max(each.accuracy or 0.0 for each in of_size or fitting)
    assert chosen in [each.architecture for each in of_size or fitting if each.accuracy == best]
    other = random_counterpart(SPACE, chosen, at_most, {chosen}, seed)
    if other is not None:
        assert other != chosen
        assert SPACE.parameters(other) <= at_most
        assert other == random_counterpart(SPACE, chosen, at_most, {chosen}, seed)


def test_the_best_quarter_is_the_most_accurate_and_never_empty() -> None:
    networks = [network(6, (), accuracy / 10) for accuracy in (3, 9, 1, 8, 2, 7, 4, 5)]
    assert [each.accuracy for each in best_share(networks)] == [0.9, 0.8]
    assert [each.accuracy for each in best_share(networks[:1])] == [0.3]
    assert best_share([network(6, (), None)]) == []


def test_probabilities_of_narrow_layers_count_the_best_networks_that_have_the_layer() -> None:
    best = [network(6, (0, 5), 0.9), network(5, (0, 1), 0.8)]
    others = [network(6, (2, 3), 0.1)] * 6
    assert narrow_probabilities([*others, *best], SPACE) == (1.0, 0.5, 0.0, 0.0, 0.0, 1.0)
    assert narrow_probabilities([network(4, (0,))], SPACE, share=1.0) == (1.0, 0.0, 0.0, 0.0, None, None)


def test_where_all_mlps_are_equally_wide_none_is_narrow() -> None:
    space = SearchSpace(SHAPE, (6, 5), (48,), (5,), ("none",))
    assert narrow_layers(space.largest(), space) == ()


def test_the_heuristic_network_has_the_usual_depth_and_is_narrow_where_the_best_are() -> None:
    best = [network(5, (0, 3), 0.9), network(5, (0, 2), 0.85), network(6, (0, 3), 0.8)]
    others = [network(4, (1,), 0.1)] * 9
    assert heuristic_network([*best, *others], SPACE) == network_with_narrow(SPACE, SPACE.kept_layers(5), (0, 3))
    assert heuristic_network([], SPACE) is None


def test_where_layers_leave_in_several_orders_the_heuristic_network_has_those_that_most_of_the_best_have() -> None:
    space = replace(SPACE, drop_order=((5, 4), (2, 3), (4, 5)))
    one, other = space.kept_layers(5, 0), space.kept_layers(5, 1)
    best = [
        evaluated(network_with_narrow(space, kept, narrow), 0.9)
        for kept, narrow in ((one, (0,)), (other, (5,)), (other, (4,)), (space.kept_layers(6), (5,)))
    ]
    assert heuristic_network(best, space, share=1.0) == network_with_narrow(space, other, (5,))


def test_of_layers_that_are_narrow_equally_often_the_last_are_taken() -> None:
    best = [network(6, (1,), 0.9), network(6, (4,), 0.9)]
    assert heuristic_network(best, SPACE, share=1.0) == network_with_narrow(SPACE, SPACE.kept_layers(6), (4,))


def test_depths_are_counted_by_percentile_of_accuracy() -> None:
    networks = [network(4, (), 0.1), network(4, (), 0.2), network(5, (), 0.3), network(6, (), 0.4)]
    assert depth_probabilities(networks, bins=2) == [{4: 1.0}, {5: 0.5, 6: 0.5}]
    assert depth_probabilities([], bins=2) == [{}, {}]


@pytest.mark.parametrize("bins", [1, 2, 3, 4, 7])
def test_every_measured_network_is_in_one_percentile(bins: int) -> None:
    networks = [network(4, (), number / 10) for number in range(5)]
    groups = depth_probabilities(networks, bins)
    assert len(groups) == bins
    assert all(sum(group.values()) in (0.0, 1.0) for group in groups)
