"""The difference between two networks of a study, of a task or in the mean over tasks."""

from dataclasses import replace

import pytest

from services.reporting.item_answers import ItemAnswers
from services.reporting.statistics.paired_comparison import PairedTable
from services.reporting.statistics.task_means import MeanEstimate
from services.reporting.study.difference import Difference
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
