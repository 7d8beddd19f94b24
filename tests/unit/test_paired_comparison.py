"""Paired comparisons: the score interval, non-inferiority, McNemar's test."""

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from services.reporting.statistics.paired_comparison import ONE_SIDED, PairedTable, discordance_allowed

tables = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 500)).filter(lambda table: sum(table) > 0)


def paired(only_one: int, only_other: int, agreeing: int) -> PairedTable:
    return PairedTable(only_one + only_other + agreeing, only_one, only_other)


def test_a_table_is_counted_from_the_answers() -> None:
    table = PairedTable.of([1.0, 1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 1.0, 0.0])
    assert table == PairedTable(5, 2, 1)
    assert table.difference == pytest.approx(0.2) and table.discordance == pytest.approx(0.6)


def test_networks_measured_on_different_items_or_on_none_cant_be_compared() -> None:
    with pytest.raises(ValueError, match="shorter"):
        PairedTable.of([1.0, 0.0], [1.0])
    with pytest.raises(ValueError, match="no items"):
        PairedTable.of([], [])


def test_mcnemar_counts_only_the_items_that_one_network_answered_right() -> None:
    assert paired(8, 1, 50).p_value == pytest.approx(2 * (1 + 9) / 2**9)
    assert paired(8, 1, 50).p_value == paired(1, 8, 0).p_value
    assert paired(0, 0, 2).p_value == 1.0


def test_the_interval_is_the_published_one() -> None:
    """Airway hyper-responsiveness before and after stem cell transplantation: Fagerland, Lydersen and Laake 2014,
    "Recommended tests and confidence intervals for paired binomial proportions"."""
    assert paired(1, 7, 13).bounds() == pytest.approx((-0.517, -0.026), abs=5e-4)


@given(tables)
def test_the_score_is_mcnemars_under_the_hypothesis_of_no_difference(table: tuple[int, int, int]) -> None:
    only_one, only_other, _ = table
    if only_one + only_other:
        assert paired(*table).score(0.0) == pytest.approx((only_one - only_other) / (only_one + only_other) ** 0.5)


@pytest.mark.parametrize("table", [(12, 2, 36), (3, 0, 20), (0, 0, 30), (5, 9, 200), (40, 1, 2)])
@pytest.mark.parametrize("difference", [-0.4, -0.02, 0.1, 0.6])
def test_the_score_uses_the_likeliest_table_with_the_hypothesised_difference(
    table: tuple[int, int, int], difference: float
) -> None:
    only_one, only_other, agreeing = table
    items = sum(table)

    def unlikelihood(other: float) -> float:
        cells = ((only_one, other + difference), (only_other, other), (agreeing, 1 - 2 * other - difference))
        return -sum(count * log(max(share, 1e-300)) for count, share in cells if count)

    least, most = max(0.0, -difference), (1 - difference) / 2
    other = minimize_scalar(unlikelihood, bounds=(least, most), method="bounded", options={"xatol": 1e-12}).x
    variance = items * (2 * other + difference - difference**2)
    expected = (only_one - only_other - items * difference) / variance**0.5
    assert paired(*table).score(difference) == pytest.approx(expected, rel=1e-3, abs=1e-3)


@given(tables)
def test_the_interval_contains_the_difference_and_changes_sign_with_the_networks_order(
    table: tuple[int, int, int],
) -> None:
    here, there = paired(*table), paired(table[1], table[0], table[2])
    low, high = here.bounds()
    assert -1 <= low <= here.difference <= high <= 1
    assert there.bounds() == pytest.approx((-high, -low), abs=1e-6)
    assert here.lower_bound >= low


@given(tables)
def test_the_ends_are_where_the_score_is_the_quantile(table: tuple[int, int, int]) -> None:
    bound = paired(*table).lower_bound
    if bound > -1:
        assert paired(*table).score(bound) == pytest.approx(ONE_SIDED, abs=1e-4)


def test_intervals_cover_the_true_difference_as_often_as_they_claim() -> None:
    rng = np.random.default_rng(0)
    shares, true = (0.05, 0.07, 0.88), -0.02
    drawn = rng.multinomial(700, shares, size=1500)
    below = covered = 0
    for only_one, only_other, agreeing in drawn.tolist():
        table = paired(only_one, only_other, agreeing)
        low, high = table.bounds()
        below += table.lower_bound > true
        covered += low <= true <= high
    assert below / 1500 == pytest.approx(0.05, abs=0.015)
    assert covered / 1500 == pytest.approx(0.95, abs=0.015)


def test_the_fewer_the_items_the_less_is_shown() -> None:
    bounds = [PairedTable(items, 0.035 * items, 0.042 * items).lower_bound for items in (25, 100, 400, 1600, 6400)]
    assert bounds == sorted(bounds)
    assert bounds[0] < -0.1 and bounds[-1] > -0.02


def test_the_number_of_items_needed_has_the_power_it_was_computed_for() -> None:
    rng = np.random.default_rng(1)
    table = PairedTable(700, 28, 28)
    items = table.items_needed(0.02)
    assert items == pytest.approx(6.18 * 0.08 / 0.02**2, rel=0.01)
    drawn = rng.multinomial(items, (0.04, 0.04, 0.92), size=800).tolist()
    shown = sum(paired(*counts).lower_bound > -0.02 for counts in drawn)
    assert shown / 800 == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("items", [460, 1600])
@pytest.mark.parametrize("margin", [0.01, 0.02, 0.05])
def test_two_networks_that_differ_as_often_as_is_allowed_need_exactly_these_items(items: int, margin: float) -> None:
    differing = discordance_allowed(items, margin) * 10_000 / 2
    needed = PairedTable(10_000, differing, differing).items_needed(margin)
    assert needed in (items, items + 1)
    assert discordance_allowed(10**6, 0.05) == 1


def test_the_items_needed_grow_with_the_loss_up_to_the_margin_beyond_which_none_is_assumed() -> None:
    gained, even, lost, too_much = (PairedTable(1000, 40 + d, 40 - d) for d in (5, 0, -5, -15))
    assert gained.items_needed(0.02) == even.items_needed(0.02) < lost.items_needed(0.02)
    assert too_much.items_needed(0.02) == even.items_needed(0.02)


def test_networks_that_agree_on_every_item_need_as_many_as_rule_the_margin_out() -> None:
    items = PairedTable(10, 0, 0).items_needed(0.02)
    assert PairedTable(items, 0, 0).lower_bound > -0.02 > PairedTable(items - 2, 0, 0).lower_bound


def test_items_of_a_subject_count_as_fewer() -> None:
    """Ten subjects of ten questions; in each the same network is always right."""
    one = [float(subject < 7) for subject in range(10) for _ in range(10)]
    other = [1 - answer for answer in one]
    subjects = [subject for subject in range(10) for _ in range(10)]
    alone, together = PairedTable.of(one, other), PairedTable.of(one, other, subjects)
    assert together.difference == pytest.approx(alone.difference) == pytest.approx(0.4)
    assert together.effect == pytest.approx(11, rel=0.05)
    assert together.bounds()[0] < 0 < alone.bounds()[0]
    assert together.p_value > 0.1 and alone.p_value < 0.001
    assert together.items_needed(0.02) > 5 * alone.items_needed(0.02)


@pytest.mark.parametrize("spread", [0.0, 0.9])
def test_twelve_subjects_of_25_items_show_no_difference_where_there_is_none_more_often_than_claimed(
    spread: float,
) -> None:
    """The one network is better in some subjects and the other in others; by the normal distribution 8 % and 1.6 % of
    the p-values would be below 5 % and 0.5 % where subjects differ."""
    rng = np.random.default_rng(0)
    subjects = np.repeat(np.arange(12), 25)
    found, bounds = list[float](), 0
    for _ in range(1500):
        better = (0.5 + spread * (rng.random(12) - 0.5))[subjects]
        differing, won = rng.random(300) < 0.3, rng.random(300) < better
        one, other = ((differing & each).astype(float).tolist() for each in (won, ~won))
        table = PairedTable.of(one, other, subjects.tolist())
        found.append(table.p_value)
        bounds += table.lower_bound > 0
    shown = [float(np.mean(np.asarray(found) < level)) for level in (0.05, 0.005)]
    assert shown[0] < 0.065 and shown[1] < 0.0085 and bounds / 1500 < 0.065
    if spread:
        assert shown[0] > 0.035 and shown[1] > 0.0015


def test_only_the_p_value_of_unclustered_items_is_exact() -> None:
    one, other = [1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]
    assert PairedTable.of(one, other).exact
    assert not PairedTable.of(one, other, [0, 0, 1, 1]).exact


def test_the_interval_of_clustered_items_covers_the_true_difference_as_often_as_it_claims() -> None:
    """Subjects that differ in how much the one network is better: 40 of 30 questions."""
    rng = np.random.default_rng(0)
    subjects = np.repeat(np.arange(40), 30)
    covered = covered_alone = 0
    for _ in range(400):
        better = np.clip(rng.normal(0.10, 0.08, size=40), 0, 0.4)[subjects]
        drawn = rng.random(1200)
        differences = (drawn < better).astype(float) - (drawn > 0.92)
        one, other = (differences > 0).astype(float).tolist(), (differences < 0).astype(float).tolist()
        for clusters in (subjects.tolist(), ()):
            low, high = PairedTable.of(one, other, clusters).bounds()
            held = low <= 0.024 <= high  # the mean of the clipped normal distribution less 0.08
            covered, covered_alone = covered + (held and bool(clusters)), covered_alone + (held and not clusters)
    assert covered / 400 == pytest.approx(0.95, abs=0.025)
    assert covered_alone / 400 < 0.9


def test_the_one_sided_quantile_is_the_normal_distributions() -> None:
    assert norm.cdf(ONE_SIDED) == pytest.approx(0.95)
