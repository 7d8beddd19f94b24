"""Intervals, tests and the predictor's quality."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from services.coordinator.statistics import kendall_tau, mean_absolute_error, wilson_interval


@given(st.integers(1, 3000).flatmap(lambda items: st.tuples(st.integers(0, items), st.just(items))))
def test_the_wilson_interval_is_scipys(counts: tuple[int, int]) -> None:
    correct, items = counts
    expected = binomtest(correct, items).proportion_ci(0.95, method="wilson")
    assert wilson_interval(correct, items) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_wilson_interval_stays_between_0_and_1_at_the_ends() -> None:
    assert wilson_interval(0, 10)[0] == pytest.approx(0, abs=1e-12)
    assert wilson_interval(10, 10)[1] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("correct", "items"), [(0, 0), (3, 2), (-1, 5)])
def test_impossible_counts_have_no_interval(correct: int, items: int) -> None:
    with pytest.raises(ValueError, match="correct of"):
        wilson_interval(correct, items)


def test_kendalls_tau_is_1_for_the_same_order_and_minus_1_for_the_opposite() -> None:
    assert kendall_tau([0.1, 0.2, 0.3], [5.0, 6.0, 7.0]) == pytest.approx(1)
    assert kendall_tau([0.1, 0.2, 0.3], [7.0, 6.0, 5.0]) == pytest.approx(-1)


@pytest.mark.parametrize(
    ("predicted", "measured"), [([], []), ([0.1], [0.2]), ([0.1, 0.1], [0.2, 0.3]), ([0.1, 0.2], [1, 1])]
)
def test_kendalls_tau_is_none_where_it_is_undefined(predicted: list[float], measured: list[float]) -> None:
    assert kendall_tau(predicted, measured) is None


def test_the_mean_absolute_error_is_in_the_unit_of_the_values() -> None:
    assert mean_absolute_error([0.5, 0.7], [0.6, 0.4]) == pytest.approx(0.2)
    assert mean_absolute_error([], []) is None


def test_quality_needs_a_measurement_for_each_prediction() -> None:
    with pytest.raises(ValueError, match="measured"):
        kendall_tau([0.1, 0.2], [0.1])
    with pytest.raises(ValueError, match="measured"):
        mean_absolute_error([0.1, 0.2], [0.1])
