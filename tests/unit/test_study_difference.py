"""The difference between two networks of a study, of a task or in the mean over tasks."""

from services.reporting.item_answers import ItemAnswers
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
