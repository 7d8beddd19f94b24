"""What a network answered on the report items, and how it compares with another on the same items."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from services.coordinator.predictor_quality import wilson_interval
from services.reporting.report_data import Advantage, Comparison, NonInferiority, TaskRow
from services.reporting.statistics.advantage import mean_advantage
from services.reporting.statistics.clusters import design_effect
from services.reporting.statistics.means import Mean, item_mean, macro
from services.reporting.statistics.paired import Paired
from shared.messages import ItemScores, Measurement, correct


@dataclass(frozen=True)
class Answers:
    """The scores of all tasks, and the metric of each that says which answers were right."""

    scores: tuple[ItemScores, ...]
    metrics: tuple[str, ...]

    @classmethod
    def of(cls, measurement: Measurement, metrics: tuple[str, ...]) -> "Answers":
        """From a measurement."""
        return cls(measurement.scores, metrics)

    @cached_property
    def values(self) -> list[float]:
        """A number an item, 1 where the answer was right, all tasks' items one after another."""
        return correct(self.scores, self.metrics)

    @cached_property
    def clusters(self) -> tuple[int, ...]:
        """Of each item the number of what it belongs to: its task within a group, else itself alone. Empty if there are
        no groups."""
        if not any(task.clusters for task in self.scores):
            return ()
        numbers: list[int] = []
        for task in self.scores:
            first = max(numbers, default=-1) + 1
            numbers += [first + number for number in (task.clusters or range(len(task.items)))]
        return tuple(numbers)

    @property
    def accuracy(self) -> float:
        """Share of all items answered right: what the search counts."""
        return sum(self.values) / len(self.values)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy."""
        return _share_interval(self.values, self.clusters)

    def each(self) -> list["Answers"]:
        """The tasks one by one."""
        return [Answers((task,), (metric,)) for task, metric in zip(self.scores, self.metrics, strict=True)]

    @property
    def even(self) -> bool:
        """Whether this is a group whose tasks all count the same."""
        return len(self.scores) == 1 and self.metrics[0] in self.scores[0].even

    def mean(self, other: "Answers | None" = None) -> Mean:
        """Mean of a task by its own rule; less that of another network's."""
        values = self.values if other is None else differences(self, other)
        return item_mean(values, self.clusters, self.even)


def differences(one: Answers, other: Answers) -> list[float]:
    """Item by item. Raises ValueError if the networks were not measured on as many items."""
    return [mine - theirs for mine, theirs in zip(one.values, other.values, strict=True)]


def compared(one: Answers, other: Answers) -> Comparison:
    """One network against another, over all items; not corrected yet."""
    paired = Paired.of(one.values, other.values, one.clusters)
    return Comparison(difference=paired.difference, interval=paired.bounds(), p_value=paired.p_value)


def non_inferiority(one: Answers, other: Answers, margin: float) -> NonInferiority:
    """What is known of how much worse the one network is at most, and how many items would show that it is at most the
    margin."""
    paired = Paired.of(one.values, other.values, one.clusters)
    return NonInferiority(lower_bound=paired.lower_bound, items_needed=paired.items_needed(margin))


def task_row(one: Answers, dense: Answers | None, base: Answers | None) -> TaskRow:
    """A single task, as lm-eval aggregates it."""

    def against(other: Answers | None) -> Comparison | None:
        if other is None:
            return None
        return _of_mean(one.mean(other)) if one.even else compared(one, other)

    accuracy = one.mean()
    interval = _within(accuracy) if one.even else one.interval
    return TaskRow(accuracy=accuracy.value, interval=interval, versus_dense=against(dense), versus_base=against(base))


def macro_row(one: Answers, dense: Answers | None, base: Answers | None) -> TaskRow | None:
    """All tasks, each counting the same; None if there is only one."""
    if len(one.scores) < 2:
        return None

    def against(other: Answers | None) -> Comparison | None:
        if other is None:
            return None
        pairs = zip(one.each(), other.each(), strict=True)
        return _of_mean(macro([mine.mean(theirs) for mine, theirs in pairs]))

    accuracy = macro([task.mean() for task in one.each()])
    return TaskRow(
        accuracy=accuracy.value,
        interval=_within(accuracy),
        versus_dense=against(dense),
        versus_base=against(base),
    )


def advantage(pairs: Sequence[tuple[Answers, Answers]]) -> Advantage | None:
    """By how much the first networks of pairs are better than the second ones; None without pairs."""
    if not pairs:
        return None
    mean, interval = mean_advantage([differences(*pair) for pair in pairs], pairs[0][0].clusters)
    return Advantage(difference=mean, interval=interval, pairs=len(pairs))


def _share_interval(values: Sequence[float], clusters: Sequence[int]) -> tuple[float, float]:
    """Wilson's interval of the counts divided by their design effect, as Dean and Pagano 2015 recommend for clustered
    samples."""
    effect = design_effect(values, clusters)
    return wilson_interval(sum(values) / effect, len(values) / effect)


def _within(mean: Mean) -> tuple[float, float]:
    low, high = mean.interval
    return max(0.0, low), min(1.0, high)


def _of_mean(mean: Mean) -> Comparison:
    low, high = mean.interval
    return Comparison(difference=mean.value, interval=(max(-1.0, low), min(1.0, high)), p_value=mean.p_value)
