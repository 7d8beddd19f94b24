"""How much luck there is in the best of many, and what a comparison could show."""

from math import isclose, log, pi, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from services.reporting.statistics.power import FEWEST, detectable_difference, detectable_mean
from services.reporting.statistics.winners_curse import correlated_excess, expected_excess, expected_maximum


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, 0.0), (2, 1 / sqrt(pi)), (3, 1.5 / sqrt(pi)), (10, 1.53875), (50, 2.24907), (100, 2.50759)],
)
def test_the_expected_maximum_of_normal_numbers_is_that_of_the_tables(count: int, expected: float) -> None:
    assert expected_maximum(count) == pytest.approx(expected, abs=1e-5)


@given(st.integers(2, 5000))
def test_the_more_networks_are_looked_at_the_luckier_the_best_is_but_not_without_bound(count: int) -> None:
    assert expected_maximum(count - 1) < expected_maximum(count) <= sqrt(2 * log(count))


def test_there_is_no_maximum_of_nothing() -> None:
    with pytest.raises(ValueError, match="maximum of 0"):
        expected_maximum(0)


def test_one_network_is_not_lucky_on_average() -> None:
    assert expected_excess(0.015, 1) == pytest.approx(0, abs=1e-9)


def test_the_best_of_fifty_independent_networks_on_arc_challenge_gains_three_points_by_luck() -> None:
    assert expected_excess(0.0146, 50) == pytest.approx(0.0146 * 2.24907, abs=1e-6)


@given(st.floats(0.001, 0.1), st.floats(0, 1), st.integers(1, 500))
def test_networks_that_answer_alike_are_less_lucky_by_the_root_of_what_they_do_not_share(
    error: float, correlation: float, networks: int
) -> None:
    of_difference = sqrt(2 * (1 - correlation)) * error
    excess = correlated_excess(of_difference, networks)
    assert isclose(excess, sqrt(1 - correlation) * expected_excess(error, networks), abs_tol=1e-9)


def test_the_detectable_difference_of_a_thousand_items_is_that_worked_out_by_hand() -> None:
    # z: 1.95996 + 0.84162 = 2.80158; d = z sqrt(0.2 / (1000 + z^2)) = 2.80158 * 0.0140868
    assert detectable_difference(0.2, 1000) == pytest.approx(0.039465, abs=1e-5)


@given(st.floats(0.05, 1), st.integers(500, 100_000))
def test_the_detectable_difference_is_found_four_times_in_five(discordance: float, items: int) -> None:
    difference = detectable_difference(discordance, items)
    error = sqrt((discordance - difference**2) / items)
    assert norm.cdf(difference / error - norm.ppf(0.975)) == pytest.approx(0.8, abs=1e-9)


@given(st.floats(0, 1), st.integers(6, 10_000))
def test_more_items_show_smaller_differences_and_none_shows_less_than_six_items(discordance: float, items: int) -> None:
    assert detectable_difference(discordance, 2 * items) < detectable_difference(discordance, items) <= 1
    assert detectable_difference(discordance, items) >= min(1, FEWEST / items)


def test_nothing_can_be_detected_without_items() -> None:
    with pytest.raises(ValueError, match="no items"):
        detectable_difference(0.2, 0)


def test_a_mean_without_spread_is_no_proof_of_endless_power() -> None:
    assert detectable_mean(0.0, 600) == FEWEST / 600
    assert detectable_mean(0.01, 600) == pytest.approx(0.0280158, abs=1e-6)
