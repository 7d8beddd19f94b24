"""Domination, selection and hypervolume."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.coordinator.pareto import ReferencePoint, best, hypervolume, non_dominated, ranks

# Few values, so that ties are common.
NETWORKS = st.lists(st.tuples(st.integers(1, 8), st.integers(0, 8).map(lambda eighths: eighths / 8)), max_size=20)


def _columns(networks: list[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [size for size, _ in networks], [accuracy for _, accuracy in networks]


def _dominates(networks: list[tuple[int, float]], one: int, other: int) -> bool:
    (size, accuracy), (other_size, other_accuracy) = networks[one], networks[other]
    if networks[one] == networks[other]:
        return one < other
    return size <= other_size and accuracy >= other_accuracy


def _peeled_ranks(networks: list[tuple[int, float]]) -> list[int]:
    """By the definition: take the front away, again and again."""
    result, left, rank = [0] * len(networks), set(range(len(networks))), 0
    while left:
        front = {index for index in left if not any(_dominates(networks, other, index) for other in left - {index})}
        for index in front:
            result[index] = rank
        left, rank = left - front, rank + 1
    return result


@given(NETWORKS)
def test_ranks_are_those_of_the_definition(networks: list[tuple[int, float]]) -> None:
    assert ranks(*_columns(networks)) == _peeled_ranks(networks)


@given(NETWORKS)
def test_the_front_rises_strictly_in_size_and_accuracy(networks: list[tuple[int, float]]) -> None:
    front = [networks[index] for index in non_dominated(*_columns(networks))]
    assert bool(front) == bool(networks)
    assert all(below[0] < above[0] and below[1] < above[1] for below, above in pairwise(front))


def test_of_equal_networks_the_first_told_stays_on_the_front() -> None:
    assert non_dominated([5, 3, 5, 3], [0.5, 0.4, 0.5, 0.4]) == [1, 0]


def test_an_equally_accurate_larger_network_is_dominated() -> None:
    assert non_dominated([4, 5], [0.5, 0.5]) == [0]


@given(NETWORKS, st.integers(0, 25))
def test_the_best_are_distinct_and_never_leave_out_a_better_rank(networks: list[tuple[int, float]], count: int) -> None:
    rank = ranks(*_columns(networks))
    chosen = best(*_columns(networks), count)
    assert len(chosen) == len(set(chosen)) == min(count, len(networks))
    assert sorted(rank[index] for index in chosen) == sorted(rank)[: len(chosen)]


def test_of_a_front_that_is_too_long_an_even_spread_over_size_is_chosen() -> None:
    sizes = list(range(101))
    chosen = best(sizes, [size / 100 for size in sizes], 5)
    assert sorted(sizes[index] for index in chosen) == [0, 25, 50, 75, 100]


def test_the_hypervolume_is_the_area_of_the_staircase() -> None:
    reference = ReferencePoint(largest=100, size=1.0, accuracy=0.2)
    assert hypervolume([50, 80], [0.4, 0.6], reference) == pytest.approx(0.5 * 0.2 + 0.2 * 0.2)


def test_the_largest_network_counts_at_the_default_reference_point() -> None:
    assert hypervolume([100], [0.5], ReferencePoint(largest=100)) == pytest.approx(0.05)


def test_networks_beyond_the_reference_point_and_dominated_ones_add_nothing() -> None:
    reference = ReferencePoint(largest=100, size=1.0, accuracy=0.3)
    assert hypervolume([50], [0.4], reference) == hypervolume([50, 60, 40, 120], [0.4, 0.35, 0.2, 0.9], reference)
    assert hypervolume([], [], reference) == 0


@given(NETWORKS, st.tuples(st.integers(1, 8), st.floats(0, 1)))
def test_another_network_never_lessens_the_hypervolume(
    networks: list[tuple[int, float]], another: tuple[int, float]
) -> None:
    reference = ReferencePoint(largest=8)
    assert (
        hypervolume(*_columns([*networks, another]), reference) >= hypervolume(*_columns(networks), reference) - 1e-12
    )
