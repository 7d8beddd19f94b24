"""Networks compared on the same items, task by task and together."""

import pytest

from services.cli.evaluate import _accuracies
from services.reporting.comparisons import advantage, compare, macro_row, non_inferiority, task_row
from services.reporting.item_answers import ItemAnswers
from services.reporting.statistics.intervals import wilson_interval
from shared.messages import ItemScores


def scores(task: str, answers: list[float], clusters: tuple[int, ...] = (), even: tuple[str, ...] = ()) -> ItemScores:
    return ItemScores(
        task=task,
        items=tuple(range(len(answers))),
        items_digest="d",
        metrics={"acc": tuple(answers)},
        values={"acc": sum(answers) / len(answers)},
        margins=(),
        clusters=clusters,
        even=even,
    )


def answers(*tasks: ItemScores) -> ItemAnswers:
    return ItemAnswers(tasks, ("acc",) * len(tasks))


SUBJECTS = (0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2)
GROUP = scores("group", [1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 0], SUBJECTS)
SINGLE = scores("single", [1, 0, 1])


def test_items_of_a_group_belong_to_their_subject_and_others_to_themselves() -> None:
    assert answers(SINGLE).clusters == ()
    mixed = answers(GROUP, SINGLE).clusters
    assert mixed[:12] == SUBJECTS and len(set(mixed[12:])) == 3 and not set(mixed[12:]) & set(SUBJECTS)
    swapped = answers(SINGLE, GROUP).clusters
    assert len(set(swapped)) == 6 and len(set(swapped[3:])) == 3


def test_the_interval_of_independent_items_is_wilsons_and_that_of_subjects_is_wider() -> None:
    assert answers(SINGLE).interval == pytest.approx(wilson_interval(2, 3))
    low, high = answers(GROUP).interval
    narrow = wilson_interval(7, 12)
    assert low < narrow[0] < narrow[1] < high


def test_the_p_values_of_subjects_and_of_means_are_not_exact() -> None:
    one, other = answers(GROUP, SINGLE), answers(GROUP, scores("single", [0, 0, 1]))
    assert compare(answers(SINGLE), answers(SINGLE)).exact and not compare(one, other).exact
    macro = macro_row(one, other, None)
    assert macro is not None and macro.versus_dense is not None and not macro.versus_dense.exact


def test_a_group_that_counts_its_tasks_equally_has_the_mean_of_their_means() -> None:
    uneven = scores("group", [1, 1, 1, 1, 1, 0], (0, 0, 0, 0, 1, 1), even=("acc",))
    other = scores("group", [1, 1, 1, 0, 0, 0], (0, 0, 0, 0, 1, 1), even=("acc",))
    row = task_row(answers(uneven), answers(other), None)
    assert row.accuracy == pytest.approx((1 + 0.5) / 2)
    assert row.versus_dense is not None and row.versus_base is None
    assert row.versus_dense.difference == pytest.approx((0.25 + 0.5) / 2)
    assert row.interval[0] == 0 and row.interval[1] == 1
    assert answers(uneven).accuracy == pytest.approx(5 / 6)


def test_the_mean_over_tasks_counts_them_equally_and_needs_two() -> None:
    row = macro_row(answers(GROUP, SINGLE), answers(GROUP, SINGLE), None)
    assert row is not None and row.accuracy == pytest.approx((7 / 12 + 2 / 3) / 2)
    assert row.versus_dense is not None and (row.versus_dense.difference, row.versus_dense.p_value) == (0, 1)
    assert macro_row(answers(GROUP), None, None) is None


def test_networks_are_compared_by_the_items_they_share() -> None:
    better, worse = (answers(scores("t", [1.0] * right + [0.0] * (100 - right))) for right in (60, 50))
    comparison = compare(better, worse)
    assert comparison.difference == pytest.approx(0.1)
    assert 0 < comparison.interval[0] < 0.1 < comparison.interval[1]
    assert comparison.p_value == pytest.approx(2 * 0.5**10)
    bound = non_inferiority(worse, better, 0.05)
    assert -comparison.interval[1] < bound.lower_bound < -0.1 and bound.items_needed > 100
    gain = advantage([(better, worse), (better, better)])
    assert gain is not None and gain.difference == pytest.approx(0.05) and gain.pairs == 2
    assert advantage([]) is None
    with pytest.raises(ValueError, match="shorter"):
        compare(better, answers(SINGLE))


def test_a_measurement_by_hand_has_the_interval_of_the_report() -> None:
    ((name, value, interval),) = _accuracies(GROUP)
    low, high = answers(GROUP).interval
    assert (name, value, interval) == ("acc", "0.5833", f"{low:.4f} to {high:.4f}")
