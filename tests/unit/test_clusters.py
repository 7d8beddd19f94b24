"""Means of items that belong together, of tasks, and over pairs of networks."""

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t, ttest_1samp, ttest_ind

from services.reporting.statistics.advantage import mean_advantage
from services.reporting.statistics.clusters import degrees_of_freedom, design_effect, mean_variance
from services.reporting.statistics.task_means import MeanEstimate, item_mean, mean_over_tasks, plus_four_mean


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=60))
def test_items_that_are_clusters_of_one_are_independent(values: list[float]) -> None:
    assert design_effect(values, range(len(values))) == pytest.approx(1)
    assert design_effect(values, ()) == 1
    assert mean_variance(values, ()) == pytest.approx(np.var(values, ddof=1) / len(values))


def test_equal_answers_within_subjects_count_once_a_subject() -> None:
    subjects = [subject for subject in range(20) for _ in range(5)]
    values = [float(subject % 3 == 0) for subject in subjects]
    once = [float(subject % 3 == 0) for subject in range(20)]
    assert mean_variance(values, subjects) == pytest.approx(mean_variance(once, ()))


def test_the_design_effect_is_found_where_it_is_known() -> None:
    """With n items a subject and an intraclass correlation r it is 1 + (n - 1) r (Kish 1965)."""
    rng = np.random.default_rng(0)
    subjects = np.repeat(np.arange(400), 10)
    values = rng.normal(size=400)[subjects] * 0.5 + rng.normal(size=4000) * 0.75**0.5
    assert design_effect(values.tolist(), subjects.tolist()) == pytest.approx(1 + 9 * 0.25, rel=0.15)


def test_clusters_never_make_items_tell_more_and_one_alone_tells_nothing() -> None:
    assert design_effect([1.0, 0.0, 1.0, 0.0], [0, 0, 1, 1]) == 1
    assert design_effect([1.0, 0.0, 1.0], [0, 0, 0]) == 1
    assert design_effect([1.0, 1.0], [0, 1]) == 1


@given(st.integers(2, 40), st.integers(1, 30))
def test_clusters_of_one_size_have_one_degree_of_freedom_less_than_there_are(count: int, size: int) -> None:
    assert degrees_of_freedom([each for each in range(count) for _ in range(size)]) == pytest.approx(count - 1)


@given(st.lists(st.integers(1, 50), min_size=2, max_size=20))
def test_unequal_clusters_have_fewer_degrees_of_freedom(sizes: list[int]) -> None:
    degrees = degrees_of_freedom([number for number, size in enumerate(sizes) for _ in range(size)])
    assert 1 - 1e-9 <= degrees <= len(sizes) - 1 + 1e-9


def test_without_clusters_or_with_one_alone_the_normal_distribution_remains() -> None:
    assert degrees_of_freedom(()) == degrees_of_freedom([3, 3, 3]) == inf


def test_each_value_needs_its_cluster() -> None:
    with pytest.raises(ValueError, match="2 values, but 1 clusters"):
        design_effect([1.0, 0.0], [0])


def test_a_group_counts_its_tasks_by_size_or_equally() -> None:
    values, tasks = [1.0] * 6 + [0.0] * 2, [0] * 6 + [1] * 2
    assert item_mean(values, tasks, even=False).value == pytest.approx(0.75)
    assert item_mean(values, tasks, even=True).value == pytest.approx(0.5)
    assert item_mean(values, (), even=True).value == pytest.approx(0.75)
    with pytest.raises(ValueError, match="no items"):
        item_mean([], (), even=False)


def test_of_tasks_that_count_equally_the_test_is_students() -> None:
    means = [0.1, -0.2, 0.3, 0.2]
    values, tasks = [mean for mean in means for _ in range(3)], [task for task in range(4) for _ in range(3)]
    found, expected = item_mean(values, tasks, even=True), ttest_1samp(means, 0)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_a_mean_without_variance_differs_from_0_or_does_not() -> None:
    assert MeanEstimate(0.0, 0.0).p_value == 1.0 and MeanEstimate(0.1, 0.0).p_value == 0.0


@given(
    st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 1.0]), st.integers(0, 4)), min_size=1, max_size=40),
    st.sampled_from(["alone", "clustered", "even"]),
    st.integers(1, 6),
)
def test_four_more_items_never_make_a_mean_more_certain_nor_another(
    items: list[tuple[float, int]], kind: str, tasks: int
) -> None:
    values, clusters = [value for value, _ in items], [cluster for _, cluster in items] if kind != "alone" else []
    found = plus_four_mean(values, clusters, kind == "even", (-1, 1), tasks)
    plain = item_mean(values, clusters, kind == "even")
    assert (found.value, found.degrees) == (plain.value, plain.degrees)
    assert found.variance >= plain.variance and found.variance > 0


def test_four_more_items_are_those_of_price_and_bonett() -> None:
    """Of a single share: Agresti and Coull's 2 more right and 2 more wrong answers."""
    found = plus_four_mean([1.0] * 19 + [0.0], (), False, (0, 1))
    assert found.variance == pytest.approx(21 / 24 * 3 / 24 / 24)


def test_a_small_subject_that_counts_as_much_as_large_ones_tells_no_more_than_its_few_items() -> None:
    uneven, even = [0] * 1 + [1] * 99, [0] * 50 + [1] * 50
    few, many = (plus_four_mean([0.0] * 100, clusters, True, (-1, 1)) for clusters in (uneven, even))
    assert few.variance > 10 * many.variance


def test_losses_that_are_too_rare_to_be_seen_in_each_task_are_seldom_ruled_out() -> None:
    """One-sided 95 % bounds of discrete counts, as Tango's, are wrong up to 7 % of the time; without the four more
    items 9 % would be above the truth, and 60 % with five tasks of five."""
    rng = np.random.default_rng(0)
    for items in (5, 40):
        above = 0
        for _ in range(1000):
            drawn = -(rng.random((5, items)) < 0.02).astype(float)
            mean = mean_over_tasks([plus_four_mean(each.tolist(), (), False, (-1, 1), 5) for each in drawn])
            above += mean.value - 1.6449 * mean.variance**0.5 > -0.02
        assert above / 1000 < 0.075


def test_the_variances_of_tasks_that_count_equally_add_up() -> None:
    both = mean_over_tasks([MeanEstimate(0.4, 0.0004), MeanEstimate(0.6, 0.0012)])
    assert (both.value, both.variance) == pytest.approx((0.5, 0.0004))
    assert both.interval == pytest.approx((0.5 - 1.96 * 0.02, 0.5 + 1.96 * 0.02), abs=1e-4)


def test_the_degrees_of_freedom_of_tasks_are_carried_into_their_mean_as_by_welch() -> None:
    """Those of the difference of two samples of 8 and 15 (Welch 1947)."""
    one, other = np.random.default_rng(0).normal(0, (1, 3), size=(15, 2)).T
    one = one[:8]
    expected = ttest_ind(one, other, equal_var=False)
    tasks = [
        MeanEstimate(sign * float(np.mean(values)), mean_variance(values.tolist(), ()), len(values) - 1)
        for sign, values in ((1, one), (-1, other))
    ]
    found = mean_over_tasks(tasks)
    assert found.degrees == pytest.approx(expected.df)
    assert found.p_value == pytest.approx(expected.pvalue)


@given(st.lists(st.tuples(st.floats(1e-6, 1), st.one_of(st.just(inf), st.floats(1, 1e4))), min_size=1, max_size=6))
def test_a_mean_over_tasks_has_no_fewer_degrees_of_freedom_than_the_least_of_them(
    tasks: list[tuple[float, float]],
) -> None:
    degrees = mean_over_tasks([MeanEstimate(0.0, *task) for task in tasks]).degrees
    assert min(each for _, each in tasks) * (1 - 1e-9) <= degrees
    assert degrees == inf or any(each < inf for _, each in tasks)


def test_a_task_of_few_subjects_has_students_distribution_in_a_mean() -> None:
    subjects = [subject for subject in range(12) for _ in range(25)]
    values = [float(subject % 3 == 0) for subject in subjects]
    assert item_mean(values, subjects, even=False).degrees == pytest.approx(11)
    assert item_mean(values, (), even=False).degrees == inf


def test_a_single_pair_on_few_subjects_has_students_interval() -> None:
    differences, subjects = [1.0, 1.0, 0.0, 0.0, -1.0, -1.0, 1.0, 1.0], [0, 0, 1, 1, 2, 2, 3, 3]
    mean, (low, high) = mean_advantage([differences], subjects)
    half = float(t.ppf(0.975, 3)) * mean_variance(differences, subjects) ** 0.5
    assert (low, high) == pytest.approx((max(-1, mean - half), min(1, mean + half)))


def test_the_mean_over_pairs_allows_for_other_items_and_other_pairs() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        pairs, items = rng.normal(0.03, 0.02, size=(6, 1)), rng.normal(0, 0.3, size=(1, 300))
        shown = pairs + items + rng.normal(0, 0.2, size=(6, 300))
        mean, (low, high) = mean_advantage(shown.tolist())
        assert low <= mean <= high
        covered += low <= 0.03 <= high
    assert covered / 400 > 0.93


def test_a_single_pair_has_the_interval_of_its_items() -> None:
    differences = [1.0, 0.0, 0.0, -1.0, 1.0, 0.0, 1.0, 0.0]
    mean, (low, high) = mean_advantage([differences])
    assert mean == pytest.approx(0.25)
    assert high - low == pytest.approx(2 * 1.96 * mean_variance(differences, ()) ** 0.5, rel=1e-3)


def test_pairs_that_all_differ_equally_are_no_more_certain_than_their_items() -> None:
    differences = [1.0, 0.0, 0.0, -1.0, 1.0, 0.0, 1.0, 0.0]
    _, (low, high) = mean_advantage([differences] * 20)
    assert high - low >= 2 * 1.96 * mean_variance(differences, ()) ** 0.5


def test_there_is_no_mean_over_no_pairs() -> None:
    with pytest.raises(ValueError, match="no differences"):
        mean_advantage([])
