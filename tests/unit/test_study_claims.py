"""How the paper's claims are judged, whatever was measured."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.reporting.statistics.multiple_testing import holm
from services.reporting.statistics.paired_comparison import PairedTable
from services.reporting.study.claim_rules import Case, Evidence, better, no_worse
from services.reporting.study.corrections import corrected
from services.reporting.study.difference import Difference
from services.reporting.study.study_data import EqualSize, StudyComparison

MARGIN = 0.02
FLIPPED = {"holds": "does not hold", "does not hold": "holds", "can't be told": "can't be told"}


def evidence(only_one: int, only_other: int, items: int, larger: float = 0.0) -> Evidence:
    """A comparison in which so many items were answered right by one network only."""
    difference = Difference(PairedTable(items, only_one, only_other), items)
    return Evidence(difference, difference.shown("claims", "arc_easy", "one", "other", "ours", 1.3), larger)


def case(*found: Evidence, missing: tuple[str, ...] = ()) -> Case:
    """A claim with evidence whose p-values are corrected."""
    shown = corrected(tuple(each.shown for each in found))
    judged = tuple(replace(each, shown=new) for each, new in zip(found, shown, strict=True))
    return Case("key", "It is so", "ours", better, judged, missing)


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, int, int]:
    """Counts of a paired comparison: items right by the one only, by the other only, and all."""
    items = draw(st.integers(20, 400))
    one = draw(st.integers(0, items))
    return one, draw(st.integers(0, items - one)), items


@given(tables())
def test_swapping_who_is_better_flips_the_verdict(table: tuple[int, int, int]) -> None:
    one, other, items = table
    there, back = better(case(evidence(one, other, items)), MARGIN), better(case(evidence(other, one, items)), MARGIN)
    assert back == FLIPPED[there]


@given(st.lists(tables(), min_size=1, max_size=4), st.integers(2, 8))
def test_more_items_in_the_same_proportions_never_turn_what_holds_into_what_does_not(
    counts: list[tuple[int, int, int]], times: int
) -> None:
    few = case(*(evidence(*table) for table in counts))
    many = case(*(evidence(*(times * count for count in table)) for table in counts))
    for rule in (better, no_worse):
        verdicts = {rule(few, MARGIN), rule(many, MARGIN)}
        assert verdicts != {"holds", "does not hold"}


@given(st.lists(tables(), min_size=1, max_size=4))
def test_what_wins_everywhere_is_also_no_worse(counts: list[tuple[int, int, int]]) -> None:
    won = case(*(evidence(*table) for table in counts))
    assume(better(won, MARGIN) == "holds")
    assert no_worse(won, MARGIN) == "holds"


@given(st.lists(tables(), min_size=1, max_size=4))
def test_what_was_not_measured_keeps_a_claim_from_holding_but_not_from_being_refuted(
    counts: list[tuple[int, int, int]],
) -> None:
    found = [evidence(*table) for table in counts]
    for rule in (better, no_worse):
        whole, partly = rule(case(*found), MARGIN), rule(case(*found, missing=("slicegpt",)), MARGIN)
        assert partly == ("can't be told" if whole == "holds" else whole)


def test_without_any_evidence_nothing_can_be_told() -> None:
    assert better(case(), MARGIN) == no_worse(case(), MARGIN) == "can't be told"


def test_six_wins_of_six_show_that_a_network_is_better_and_five_do_not() -> None:
    assert better(case(evidence(6, 0, 100)), MARGIN) == "holds"  # p = 2 / 2^6 = 0.031
    assert better(case(evidence(5, 0, 100)), MARGIN) == "can't be told"  # p = 2 / 2^5 = 0.063
    assert better(case(evidence(0, 6, 100)), MARGIN) == "does not hold"


def test_two_comparisons_have_to_be_won_with_corrected_p_values() -> None:
    assert better(case(evidence(6, 0, 100), evidence(6, 0, 100)), MARGIN) == "can't be told"  # 2 * 0.031
    assert better(case(evidence(8, 0, 100), evidence(8, 0, 100)), MARGIN) == "holds"  # 2 * 0.008
    assert better(case(evidence(30, 0, 100), evidence(0, 30, 100)), MARGIN) == "does not hold"


def test_two_networks_that_agree_on_each_of_many_items_are_no_worse_than_one_another() -> None:
    assert no_worse(case(evidence(0, 0, 1000)), MARGIN) == "holds"
    assert no_worse(case(evidence(0, 0, 20)), MARGIN) == "can't be told"


def test_a_loss_has_to_be_shown_to_exceed_the_margin() -> None:
    assert no_worse(case(evidence(10, 110, 1000)), MARGIN) == "does not hold"
    assert no_worse(case(evidence(10, 35, 1000)), MARGIN) == "can't be told"


@pytest.mark.parametrize("rule", [better, no_worse])
def test_a_win_of_the_larger_network_and_a_loss_of_the_smaller_one_count_for_nothing(
    rule: Callable[[Case, float], str],
) -> None:
    for larger, wins, loses in [
        (0.05, "can't be told", "does not hold"),
        (0.01, "holds", "does not hold"),
        (-0.05, "holds", "can't be told"),
    ]:
        assert rule(case(evidence(150, 10, 1000, larger)), MARGIN) == wins
        assert rule(case(evidence(10, 150, 1000, larger)), MARGIN) == loses


@given(st.lists(tables(), min_size=1, max_size=6), st.integers(0, 5))
def test_all_comparisons_of_a_table_are_corrected_as_one_family(counts: list[tuple[int, int, int]], first: int) -> None:
    found = tuple(evidence(*table).shown for table in counts)
    parts = (
        EqualSize(times_smaller=1.3, networks=(), comparisons=found[:first]),
        EqualSize(times_smaller=1.5, networks=(), comparisons=found[first:]),
    )
    shown: list[StudyComparison] = [each for part in corrected(parts) for each in part.comparisons]
    assert [each.corrected for each in shown] == holm([each.p_value for each in found])
    assert all(each.corrected >= each.p_value for each in shown)
