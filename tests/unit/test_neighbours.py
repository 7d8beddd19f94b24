"""Networks are asked for together with those that they share most layers with."""

from collections.abc import Sequence
from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.coordinator.neighbours import divided
from shared.architecture import Architecture
from shared.messages import EvaluationRequest
from tests.support.searches import small_plan

PLAN = small_plan()
WIDTHS = st.lists(st.sampled_from([48, 32]), min_size=3, max_size=3)


def requests_of(widths: Sequence[Sequence[int]]) -> list[EvaluationRequest]:
    return [
        PLAN.request(Architecture(layers=(0, 1, 2), mlp_widths=tuple(each)), "search")
        for each in dict.fromkeys(map(tuple, widths))
    ]


def layers_computed(group: Sequence[EvaluationRequest]) -> int:
    """Different beginnings of the networks of a group."""
    return len({each.architecture.mlp_widths[:depth] for each in group for depth in (1, 2, 3)})


def divisions(ordered: Sequence[EvaluationRequest], most: int) -> list[list[Sequence[EvaluationRequest]]]:
    """Every way to cut a sequence into groups of at most so many."""
    found = []
    for cuts in range(len(ordered)):
        for places in combinations(range(1, len(ordered)), cuts):
            bounds = [0, *places, len(ordered)]
            groups = [ordered[begin:end] for begin, end in pairwise(bounds)]
            if all(len(group) <= most for group in groups):
                found.append(groups)
    return found


@given(st.lists(WIDTHS, min_size=1, max_size=7), st.integers(1, 4))
def test_no_other_division_of_the_networks_in_order_has_fewer_layers_to_compute(
    widths: list[list[int]], most: int
) -> None:
    requests = requests_of(widths)
    groups = divided(requests, most)
    assert sorted(each.identity for group in groups for each in group) == sorted(each.identity for each in requests)
    assert all(1 <= len(group) <= most for group in groups)
    ordered = sorted(requests, key=lambda each: each.architecture.mlp_widths)
    best = min(sum(map(layers_computed, groups)) for groups in divisions(ordered, most))
    assert sum(map(layers_computed, groups)) == best


def test_layers_that_differ_in_their_attention_alone_are_not_shared() -> None:
    networks = [
        Architecture(layers=(0, 1, 2), mlp_widths=(48,) * 3, without_attention=skipped)
        for skipped in ((0,), (2,), (0, 2), ())
    ]
    requests = [PLAN.request(network, "search") for network in networks]
    groups = divided([requests[index] for index in (0, 1, 2, 3)], 2)
    assert [{one.architecture.without_attention for one in group} for group in groups] == [{(0,), (0, 2)}, {(2,), ()}]


def test_networks_that_part_late_are_put_together_wherever_they_stand() -> None:
    one, other, like_one, like_other = requests_of([(48, 48, 48), (32, 48, 48), (48, 48, 32), (32, 48, 32)])
    groups = divided([one, other, like_one, like_other], 2)
    assert {frozenset(each.identity for each in group) for group in groups} == {
        frozenset({one.identity, like_one.identity}),
        frozenset({other.identity, like_other.identity}),
    }
