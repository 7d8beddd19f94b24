"""Networks compared with one another on the same items: over all items, task by task, and in the mean over tasks."""

from collections.abc import Sequence

from services.reporting.item_answers import ItemAnswers, differences
from services.reporting.report_data import Advantage, Comparison, NonInferiority, TaskRow
from services.reporting.statistics.advantage import mean_advantage
from services.reporting.statistics.paired_comparison import PairedTable
from services.reporting.statistics.task_means import MeanEstimate, mean_over_tasks


def compare(one: ItemAnswers, other: ItemAnswers) -> Comparison:
    """One network against another, over all items; the p-value is not corrected yet."""
    paired = PairedTable.of(one.values, other.values, one.clusters)
    return Comparison(
        difference=paired.difference, interval=paired.bounds(), p_value=paired.p_value, exact=paired.exact
    )


def non_inferiority(one: ItemAnswers, other: ItemAnswers, margin: float) -> NonInferiority:
    """The bound on how much worse the one network is than the other, and how many items would show that it is no more
    than the margin."""
    paired = PairedTable.of(one.values, other.values, one.clusters)
    return NonInferiority(lower_bound=paired.lower_bound, items_needed=paired.items_needed(margin))


def task_row(one: ItemAnswers, dense: ItemAnswers | None, base: ItemAnswers | None) -> TaskRow:
    """One task, aggregated as lm-eval does."""

    def against(other: ItemAnswers | None) -> Comparison | None:
        if other is None:
            return None
        return _of_mean(one.mean(other)) if one.even else compare(one, other)

    accuracy = one.mean()
    interval = _within(accuracy) if one.even else one.interval
    return TaskRow(accuracy=accuracy.value, interval=interval, versus_dense=against(dense), versus_base=against(base))


def task_rows(one: ItemAnswers, dense: ItemAnswers | None, base: ItemAnswers | None) -> dict[str, TaskRow]:
    """Each task by itself, by its name."""

    def each(answers: ItemAnswers | None) -> Sequence[ItemAnswers | None]:
        return [None] * len(one.scores) if answers is None else answers.each()

    tasks = zip(one.each(), each(dense), each(base), strict=True)
    return {task.scores[0].task: task_row(task, *against) for task, *against in tasks}


def macro_row(one: ItemAnswers, dense: ItemAnswers | None, base: ItemAnswers | None) -> TaskRow | None:
    """The mean over all tasks, each counting equally; None if there is only one."""
    if len(one.scores) < 2:
        return None

    def against(other: ItemAnswers | None) -> Comparison | None:
        if other is None:
            return None
        pairs = zip(one.each(), other.each(), strict=True)
        return _of_mean(mean_over_tasks([mine.mean(theirs, tasks) for mine, theirs in pairs]))

    tasks = len(one.scores)
    accuracy = mean_over_tasks([task.mean(tasks=tasks) for task in one.each()])
    return TaskRow(
        accuracy=accuracy.value,
        interval=_within(accuracy),
        versus_dense=against(dense),
        versus_base=against(base),
    )


def advantage(pairs: Sequence[tuple[ItemAnswers, ItemAnswers]]) -> Advantage | None:
    """By how much the first networks of pairs are better than the second ones; None without pairs."""
    if not pairs:
        return None
    mean, interval = mean_advantage([differences(*pair) for pair in pairs], pairs[0][0].clusters)
    return Advantage(difference=mean, interval=interval, pairs=len(pairs))


def _within(mean: MeanEstimate) -> tuple[float, float]:
    low, high = mean.interval
    return max(0.0, low), min(1.0, high)


def _of_mean(mean: MeanEstimate) -> Comparison:
    low, high = mean.interval
    return Comparison(
        difference=mean.value, interval=(max(-1.0, low), min(1.0, high)), p_value=mean.p_value, exact=False
    )
