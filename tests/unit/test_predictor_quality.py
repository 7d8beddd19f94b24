"""How well a predictor predicts."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from services.coordinator.predictor_quality import (
    kendall_tau,
    line_through,
    mean_absolute_error,
    partial_tau,
)


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


def test_what_is_ordered_by_size_alone_is_not_correlated_at_equal_size() -> None:
    rng = random.Random(0)
    sizes = [float(size) for size in range(200)]
    predicted, measured = ([size + rng.gauss(0, 40) for size in sizes] for _ in range(2))
    plain, partial = kendall_tau(predicted, measured), partial_tau(predicted, measured, sizes)
    assert plain is not None and partial is not None
    assert plain > 0.35 and abs(partial) < 0.15


def test_what_a_predictor_knows_beyond_size_is_seen_at_equal_size() -> None:
    rng = random.Random(0)
    sizes = [float(rng.randrange(5)) for _ in range(200)]
    measured = [size + rng.gauss(0, 1) for size in sizes]
    partial = partial_tau(measured, measured, sizes)
    assert partial == pytest.approx(1)
    assert partial_tau([-each for each in measured], measured, sizes) == pytest.approx(-1)


def test_the_partial_tau_is_that_of_what_lines_through_the_third_quantity_leave() -> None:
    one, other, given = [1.0, 2.5, 3, 4, 5, 6], [2.0, 1, 4, 3, 6, 5.5], [1.0, 3, 2, 6, 4, 5]
    left = [np.array(each) - np.polyval(np.polyfit(given, each, 1), given) for each in (one, other)]
    assert partial_tau(one, other, given) == pytest.approx(kendalltau(*left).statistic)


def test_the_partial_tau_is_known_where_size_orders_what_is_predicted() -> None:
    sizes, predicted, measured = [1, 2, 3, 4], [0.1, 0.3, 0.35, 0.4], [0.1, 0.2, 0.3, 0.4]
    assert partial_tau(predicted, [0.1, 0.32, 0.34, 0.4], sizes) == 1
    assert partial_tau(predicted, measured, sizes) is None  # of which size leaves nothing


@pytest.mark.parametrize(
    ("one", "other", "given"),
    [([], [], []), ([1, 2, 3], [1, 3, 2], [1, 2, 3]), ([1, 2, 3], [1, 3, 2], [1, 1, 1]), ([1, 1], [1, 2], [2, 1])],
)
def test_the_partial_tau_is_none_where_nothing_is_left_to_correlate(
    one: list[float], other: list[float], given: list[float]
) -> None:
    assert partial_tau(one, other, given) is None


@given(st.floats(-10, 10), st.floats(-10, 10), st.sets(st.integers(-50, 50), min_size=2))
def test_a_line_goes_through_points_that_lie_on_one(slope: float, height: float, places: set[int]) -> None:
    line = line_through([float(place) for place in places], [height + slope * place for place in places])
    assert line is not None and line(77.0) == pytest.approx(height + slope * 77, abs=1e-6)


def test_one_place_has_no_line() -> None:
    assert line_through([], []) is None and line_through([2.0, 2.0], [1.0, 3.0]) is None
    with pytest.raises(ValueError, match="2 places, but 1 values"):
        line_through([1.0, 2.0], [1.0])
