"""The 95 % interval of an accuracy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from services.reporting.statistics.intervals import accuracy_interval, wilson_interval


@given(st.integers(1, 3000).flatmap(lambda items: st.tuples(st.integers(0, items), st.just(items))))
def test_the_wilson_interval_of_whole_counts_is_scipys(counts: tuple[int, int]) -> None:
    correct, items = counts
    expected = binomtest(correct, items).proportion_ci(0.95, method="wilson")
    assert wilson_interval(correct, items) == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(st.floats(0, 100), st.floats(0, 100).filter(lambda wrong: wrong > 1e-3))
def test_the_wilson_interval_of_any_counts_holds_the_share_and_ends_where_its_score_is_the_quantile(
    correct: float, wrong: float
) -> None:
    items = correct + wrong
    share = correct / items
    low, high = wilson_interval(correct, items)
    assert 0 <= low <= share + 1e-12 and share - 1e-12 <= high <= 1
    for end in (low, high):
        assert items * (share - end) ** 2 == pytest.approx(1.959963984540054**2 * end * (1 - end), abs=1e-6)


def test_the_wilson_interval_stays_between_0_and_1_at_the_ends() -> None:
    assert wilson_interval(0, 10)[0] == pytest.approx(0, abs=1e-12)
    assert wilson_interval(10, 10)[1] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("correct", "items"), [(0, 0), (3, 2), (-1, 5)])
def test_impossible_counts_have_no_interval(correct: int, items: int) -> None:
    with pytest.raises(ValueError, match="correct of"):
        wilson_interval(correct, items)


def test_answers_that_belong_together_have_a_wider_interval() -> None:
    answers, subjects = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0], [0, 0, 0, 1, 1, 1, 2, 2, 2]
    low, high = accuracy_interval(answers)
    assert (low, high) == wilson_interval(6, 9)
    wider = accuracy_interval(answers, subjects)
    assert wider[0] < low and high < wider[1]
    with pytest.raises(ValueError, match="correct of"):
        accuracy_interval([])
