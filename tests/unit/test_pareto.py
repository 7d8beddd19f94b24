"""Domination, selection and hypervolume."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.coordinator.pareto import ReferencePoint, fronts, hypervolume, non_dominated, select_best

Network = tuple[tuple[int, ...], float]
ACCURACY = st.integers(0, 8).map(lambda eighths: eighths / 8)


def networks(objectives: int, size: int = 8, count: int = 20) -> st.SearchStrategy[list[Network]]:
    """Few values, so that ties are common."""
    costs = st.tuples(*[st.integers(1, size)] * objectives)
    return st.lists(st.tuples(costs, ACCURACY), max_size=count)


ONE = networks(1)
MANY = st.integers(1, 4).flatmap(networks)


def columns(networks: list[Network]) -> tuple[list[tuple[int, ...]], list[float]]:
    return [costs for costs, _ in networks], [accuracy for _, accuracy in networks]


def dominates(networks: list[Network], one: int, other: int) -> bool:
    (costs, accuracy), (other_costs, other_accuracy) = networks[one], networks[other]
    if networks[one] == networks[other]:
        return one < other
    return all(a <= b for a, b in zip(costs, other_costs, strict=True)) and accuracy >= other_accuracy


def peeled(networks: list[Network]) -> list[set[int]]:
    """By the definition: take the front away, again and again."""
    result, left = [], set(range(len(networks)))
    while left:
        front = {index for index in left if not any(dominates(networks, other, index) for other in left - {index})}
        result.append(front)
        left -= front
    return result


@given(MANY)
def test_fronts_are_those_of_the_definition(networks: list[Network]) -> None:
    found = [front.tolist() for front in fronts(*columns(networks))]
    assert [set(front) for front in found] == peeled(networks)
    assert all(front == sorted(front) for front in found)


@given(ONE)
def test_the_front_of_one_cost_rises_strictly_in_cost_and_accuracy(networks: list[Network]) -> None:
    front = [networks[index] for index in non_dominated(*columns(networks))]
    assert bool(front) == bool(networks)
    assert all(below[0] < above[0] and below[1] < above[1] for below, above in pairwise(front))


@given(MANY)
def test_the_front_rises_in_its_first_cost_and_holds_no_network_twice(networks: list[Network]) -> None:
    front = [networks[index] for index in non_dominated(*columns(networks))]
    assert [costs for costs, _ in front] == sorted(costs for costs, _ in front)
    assert len(set(front)) == len(front)


def test_of_equal_networks_the_first_told_stays_on_the_front() -> None:
    assert non_dominated([[5], [3], [5], [3]], [0.5, 0.4, 0.5, 0.4]) == [1, 0]


def test_an_equally_accurate_larger_network_is_dominated() -> None:
    assert non_dominated([[4], [5]], [0.5, 0.5]) == [0]


def test_a_network_that_is_better_in_a_second_cost_only_is_not_dominated() -> None:
    assert non_dominated([[4, 2], [5, 1], [6, 2]], [0.5, 0.5, 0.5]) == [0, 1]


@given(MANY, st.integers(0, 25))
def test_the_best_are_distinct_and_never_leave_out_a_better_front(networks: list[Network], count: int) -> None:
    rank = {index: number for number, front in enumerate(peeled(networks)) for index in front}
    chosen = select_best(*columns(networks), count)
    assert len(chosen) == len(set(chosen)) == min(count, len(networks))
    assert sorted(rank[index] for index in chosen) == sorted(rank.values())[: len(chosen)]


def test_of_a_front_that_is_too_long_an_even_spread_over_the_cost_is_chosen() -> None:
    sizes = list(range(101))
    chosen = select_best([[size] for size in sizes], [size / 100 for size in sizes], 5)
    assert sorted(sizes[index] for index in chosen) == [0, 25, 50, 75, 100]


def test_of_a_front_over_two_costs_the_corners_and_the_middle_are_chosen_whatever_the_units() -> None:
    places = list(product(range(11), repeat=2))
    chosen = select_best([[x, 1e9 * y] for x, y in places], [(x + y) / 20 for x, y in places], 5)
    assert {places[index] for index in chosen} == {(0, 0), (10, 10), (0, 10), (10, 0), (5, 5)}


def test_the_hypervolume_of_one_cost_is_the_area_of_the_staircase() -> None:
    reference = ReferencePoint(units=(100,), cost=1.0, accuracy=0.2)
    assert hypervolume([[50], [80]], [0.4, 0.6], reference) == pytest.approx(0.5 * 0.2 + 0.2 * 0.2)


def test_the_dense_network_counts_at_the_default_reference_point() -> None:
    assert hypervolume([[100]], [0.5], ReferencePoint(units=(100,))) == pytest.approx(0.1 * 0.5)
    assert hypervolume([[100, 7]], [0.5], ReferencePoint(units=(100, 7))) == pytest.approx(0.1 * 0.1 * 0.5)


def test_networks_beyond_the_reference_point_and_dominated_ones_add_nothing() -> None:
    reference = ReferencePoint(units=(100,), cost=1.0, accuracy=0.3)
    costs, accuracies = [[50], [60], [40], [120]], [0.4, 0.35, 0.2, 0.9]
    assert hypervolume([[50]], [0.4], reference) == hypervolume(costs, accuracies, reference) > 0
    assert hypervolume([], [], reference) == 0


@given(st.integers(1, 3).flatmap(lambda objectives: networks(objectives, count=10)))
def test_the_hypervolume_is_that_of_all_dominated_cells(networks: list[Network]) -> None:
    costs, accuracies = columns(networks)
    objectives = len(costs[0]) if costs else 1
    corner = 6  # some networks lie beyond it
    cells = list(product(range(corner), repeat=objectives))
    covered = sum(
        any(
            all(c <= cell for c, cell in zip(cost, place, strict=True)) and accuracy > eighth / 8
            for cost, accuracy in networks
        )
        for place in cells
        for eighth in range(8)
    )
    reference = ReferencePoint(units=(4,) * objectives, cost=corner / 4)
    assert hypervolume(costs, accuracies, reference) == pytest.approx(covered / 8 / 4**objectives)


@given(MANY, st.data())
def test_another_network_never_lessens_the_hypervolume(networks: list[Network], data: st.DataObject) -> None:
    objectives = len(networks[0][0]) if networks else 1
    another = data.draw(st.tuples(st.tuples(*[st.integers(1, 8)] * objectives), st.floats(0, 1)))
    reference = ReferencePoint(units=(8,) * objectives)
    before = hypervolume(*columns(networks), reference)
    assert hypervolume(*columns([*networks, another]), reference) >= before - 1e-12


def test_costs_may_come_as_arrays() -> None:
    assert select_best(np.array([[3.0], [1.0]]), np.array([0.5, 0.5]), 1) == [1]
