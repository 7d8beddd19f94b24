"""The difference between two networks of a study, of a task or in the mean over tasks."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reporting.item_answers import ItemAnswers
from services.reporting.statistics.paired_comparison import PairedTable
from services.reporting.statistics.task_means import MeanEstimate
from services.reporting.study.difference import Answers, Difference, mean_accuracy
from shared.messages import ItemScores


def answers(values: list[float], clusters: tuple[int, ...] = (), even: bool = False) -> ItemAnswers:
    """A network's answers to the items of a task."""
    scores = ItemScores(
        task="task",
        items=tuple(range(len(values))),
        items_digest="d",
        metrics={"acc": tuple(values)},
        values={"acc": sum(values) / len(values)},
        margins=(),
        clusters=clusters,
        even=("acc",) if even else (),
    )
    return ItemAnswers((scores,), ("acc",))


def exact(difference: Difference) -> bool:
    """What the content says of the p-value."""
    return difference.shown("claims", "task", "one", "other", "ours", 1.3).exact


def test_content_says_which_p_values_are_exact() -> None:
    one, other, subjects = [1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0], (0, 0, 1, 1)
    assert exact(Difference.of_task(answers(one), answers(other)))
    assert exact(Difference.of_all({"task": answers(one)}, {"task": answers(other)}))
    for even in (False, True):
        assert not exact(Difference.of_task(answers(one, subjects, even), answers(other, subjects, even)))
    both = [{name: answers(values) for name in ("task", "next")} for values in (one, other)]
    assert not exact(Difference.of_all(*both))


@pytest.mark.parametrize("estimate", [PairedTable(1000, 60, 50), MeanEstimate(0.01, 0.0001)])
def test_power_is_that_of_the_level_and_of_the_clusters_of_what_was_compared(
    estimate: PairedTable | MeanEstimate,
) -> None:
    alone, clustered = Difference(estimate, 1000), Difference(replace(estimate, degrees=11.0), 1000)
    assert alone.shown("claims", "task", "one", "other", "ours", 1.3).detectable == alone.detectable()
    assert alone.detectable() < alone.detectable(0.05 / 30) < clustered.detectable(0.05 / 30)
    assert alone.smallest_margin < clustered.smallest_margin
    assert alone.smallest_margin < alone.detectable()


def five(values: list[float]) -> Answers:
    """The same answers on five tasks."""
    return {f"task{number}": answers(values) for number in range(5)}


@pytest.mark.parametrize("items", [5, 40, 400])
def test_a_mean_over_tasks_without_disagreement_is_as_uncertain_as_all_their_items_together(items: int) -> None:
    found = Difference.of_all(five([1.0] * items), five([1.0] * items))
    low, high = found.bounds(0.975)
    assert (low, high) == pytest.approx(PairedTable(5 * items, 0, 0).bounds(), rel=0.03)
    assert found.value == 0 and found.estimate.p_value == 1
    assert found.smallest_margin == pytest.approx(-found.bounds(0.95)[0] * (1.6449 + 0.8416) / 1.6449, rel=1e-3)


def test_a_group_without_disagreement_is_uncertain_too() -> None:
    group = answers([1.0] * 30, tuple(range(3)) * 10, even=True)
    low, high = Difference.of_task(group, group).bounds(0.975)
    assert low < -0.1 and high > 0.1


def test_a_mean_accuracy_has_an_interval_where_all_answers_are_right() -> None:
    low, high = mean_accuracy(five([1.0] * 5)).interval
    assert low < 0.95 and high == 1


@given(st.lists(st.lists(st.sampled_from([-1, 0, 0, 0, 1]), min_size=2, max_size=30), min_size=2, max_size=4))
def test_a_p_value_is_below_5_percent_where_the_interval_excludes_no_difference(tasks: list[list[int]]) -> None:
    one, other = (
        {str(number): answers([float(sign * each > 0) for each in values]) for number, values in enumerate(tasks)}
        for sign in (1, -1)
    )
    found = Difference.of_all(one, other)
    low, high = found.bounds(0.975)
    if abs(found.estimate.p_value - 0.05) > 1e-6:
        assert (found.estimate.p_value < 0.05) == (not low <= 0 <= high)
