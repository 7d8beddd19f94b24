"""How much luck there is in the best of many, and what a comparison could show."""

from math import inf, isclose, log, pi, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, nct, norm, t

from services.reporting.statistics.paired_comparison import PairedTable
from services.reporting.statistics.power import (
    detectable_difference,
    detectable_mean,
    fewest_discordant,
    smallest_margin,
    smallest_margin_of_mean,
)
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
    assert detectable_difference(discordance, items) >= min(1, 6 / items)


def test_nothing_can_be_detected_without_items() -> None:
    for function in (detectable_difference, smallest_margin):
        with pytest.raises(ValueError, match="no items"):
            function(0.2, 0)


def test_a_mean_without_spread_is_no_proof_of_endless_power() -> None:
    assert detectable_mean(0.0, 600) == 6 / 600
    assert detectable_mean(0.01, 600) == pytest.approx(0.0280158, abs=1e-6)


@pytest.mark.parametrize("level", [0.05, 0.005, 0.05 / 30])
def test_one_of_many_tests_that_are_corrected_together_finds_what_it_says_four_times_in_five(level: float) -> None:
    items, discordance = 2000, 0.15
    difference = detectable_difference(discordance, items, level)
    shares = ((discordance + difference) / 2, (discordance - difference) / 2, 1 - discordance)
    drawn = np.random.default_rng(0).multinomial(items, shares, size=600).tolist()
    found = sum(PairedTable(items, one, other).p_value < level for one, other, _ in drawn)
    assert found / 600 == pytest.approx(0.8, abs=0.05)


@given(st.floats(1e-6, 0.5))
def test_the_fewest_items_are_the_first_that_the_exact_test_finds_anything_in(level: float) -> None:
    fewest = fewest_discordant(level)
    assert binomtest(fewest, fewest, 0.5).pvalue < level * (1 + 1e-9)
    assert binomtest(fewest - 1, fewest - 1, 0.5).pvalue >= level * (1 - 1e-9)


def test_of_few_clusters_larger_differences_are_detectable_with_the_same_power() -> None:
    error, degrees = 0.01, 11
    difference = detectable_mean(error, 10_000, degrees=degrees)
    assert difference > detectable_mean(error, 10_000)
    power = 1 - nct.cdf(t.ppf(0.975, degrees), degrees, difference / error)
    assert power == pytest.approx(0.8, abs=0.02)


@given(st.floats(0.01, 0.3), st.integers(300, 5000), st.sampled_from([inf, 11.0]))
def test_the_smallest_margin_is_the_one_that_needs_exactly_these_items(
    discordance: float, items: int, degrees: float
) -> None:
    margin = smallest_margin(discordance, items, degrees)
    table = PairedTable(items, discordance * items / 2, discordance * items / 2, degrees=degrees)
    assert table.items_needed(margin) in (items, items + 1)


def test_the_smallest_margin_is_shown_four_times_in_five_by_equally_good_networks() -> None:
    margin = smallest_margin(0.1, 1500)
    drawn = np.random.default_rng(0).multinomial(1500, (0.05, 0.05, 0.9), size=600).tolist()
    shown = sum(PairedTable(1500, one, other).lower_bound > -margin for one, other, _ in drawn)
    assert shown / 600 == pytest.approx(0.8, abs=0.05)


def test_networks_that_agree_on_every_item_have_a_smallest_margin_too() -> None:
    margin = smallest_margin(0.0, 200)
    assert PairedTable(200, 0, 0).lower_bound == pytest.approx(-margin, abs=1e-6)
    assert smallest_margin_of_mean(0.0, 200) == pytest.approx(margin)


def test_the_smallest_margin_of_a_mean_is_so_many_standard_errors() -> None:
    assert smallest_margin_of_mean(0.01, 10_000) == pytest.approx(0.01 * (1.644854 + 0.841621), abs=1e-7)
    assert smallest_margin_of_mean(0.01, 10_000, 11) == pytest.approx(0.01 * (t.ppf(0.95, 11) + t.ppf(0.8, 11)))
