"""The difference between two networks on the same report items: of one task, or in the mean over tasks."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Self

from services.reporting.item_answers import ItemAnswers
from services.reporting.statistics.intervals import student_quantile
from services.reporting.statistics.paired_comparison import CONFIDENCE, PairedTable
from services.reporting.statistics.power import (
    LEVEL,
    detectable_difference,
    detectable_mean,
    smallest_margin,
    smallest_margin_of_mean,
)
from services.reporting.statistics.task_means import MeanEstimate, mean_over_tasks
from services.reporting.study.study_data import Accuracy, Family, StudyComparison

Answers = Mapping[str, ItemAnswers]
"""A network's answers, task by task; or those of the network of each task."""


@dataclass(frozen=True)
class Difference:
    """A difference and all that is said of it. `items` counts the report items that it is taken over."""

    estimate: PairedTable | MeanEstimate
    items: int

    @classmethod
    def of_task(cls, one: ItemAnswers, other: ItemAnswers) -> Self:
        """On one task, aggregated as lm-eval does. Raises ValueError if they were not measured on the same items."""
        if [task.items for task in one.scores] != [task.items for task in other.scores]:
            raise ValueError("the networks were measured on different items")
        count = len(one.values)
        return cls(one.mean(other) if one.even else PairedTable.of(one.values, other.values, one.clusters), count)

    @classmethod
    def of_mean(cls, one: Answers, other: Answers) -> Self:
        """In the mean over tasks, each counting equally. Raises ValueError if they were not measured on the same."""
        if list(one) != list(other):
            raise ValueError("the networks were measured on different tasks")
        tasks = [mine.mean(other[task], len(one)) for task, mine in one.items()]
        return cls(mean_over_tasks(tasks), sum(len(mine.values) for mine in one.values()))

    @classmethod
    def of_all(cls, one: Answers, other: Answers) -> Self:
        """In the mean over tasks; of a single one, on that."""
        if len(one) == 1 and list(one) == list(other):
            (task,) = one
            return cls.of_task(one[task], other[task])
        return cls.of_mean(one, other)

    @classmethod
    def of_the_same(cls, items: int) -> Self:
        """Between a network and itself, on so many items: none, and that is certain."""
        return cls(MeanEstimate(0.0, 0.0), items)

    @property
    def exact(self) -> bool:
        """Whether the p-value is exact."""
        if isinstance(self.estimate, PairedTable):
            return self.estimate.exact
        return self.estimate.variance == 0

    @property
    def value(self) -> float:
        """The first network's accuracy minus the other's."""
        return self.estimate.difference if isinstance(self.estimate, PairedTable) else self.estimate.value

    def bounds(self, confidence: float) -> tuple[float, float]:
        """What the true difference is above, and below, with this one-sided confidence each."""
        if isinstance(self.estimate, PairedTable):
            return self.estimate.bounds(confidence)
        half = student_quantile(confidence, self.estimate.degrees) * sqrt(self.estimate.variance)
        return max(-1.0, self.value - half), min(1.0, self.value + half)

    def detectable(self, level: float = LEVEL) -> float:
        """The smallest true difference that so many items would show at this two-sided level with a power of 80 %: by
        default that of a single test, `LEVEL / m` for one of m that are corrected together."""
        estimate = self.estimate
        if isinstance(estimate, PairedTable):
            return detectable_difference(estimate.discordance, estimate.items, level, estimate.degrees)
        return detectable_mean(sqrt(estimate.variance), self.items, level, estimate.degrees)

    @property
    def smallest_margin(self) -> float:
        """The smallest margin by which so many items would show, with one-sided 95 % confidence and a power of 80 %,
        that the first network is no worse, if both are equally good."""
        estimate = self.estimate
        if isinstance(estimate, PairedTable):
            return smallest_margin(estimate.discordance, estimate.items, estimate.degrees)
        return smallest_margin_of_mean(sqrt(estimate.variance), self.items, estimate.degrees)

    def shown(
        self, family: Family, task: str, one: str, other: str, supernet: str | None, times_smaller: float | None
    ) -> StudyComparison:
        """As content; the p-value is not corrected yet."""
        low, high = self.bounds(CONFIDENCE)
        return StudyComparison(
            family=family,
            task=task,
            one=one,
            other=other,
            supernet=supernet,
            times_smaller=times_smaller,
            difference=self.value,
            interval=self.bounds((1 + CONFIDENCE) / 2),
            p_value=self.estimate.p_value,
            exact=self.exact,
            lower_bound=low,
            upper_bound=high,
            detectable=self.detectable(),
            items=self.items,
        )


def accuracy_on(task: ItemAnswers) -> Accuracy:
    """A network's accuracy on a task, aggregated as lm-eval does."""
    mean = task.mean()
    return Accuracy(accuracy=mean.value, interval=_within(mean) if task.even else task.interval)


def accuracy_chosen_by(answers: ItemAnswers) -> Accuracy:
    """A network's accuracy on the one task of a search; over all items of all tasks, if it is by several."""
    if len(answers.scores) == 1:
        return accuracy_on(answers)
    return Accuracy(accuracy=answers.accuracy, interval=answers.interval)


def mean_accuracy(answers: Answers) -> Accuracy:
    """A network's accuracy in the mean over tasks."""
    mean = mean_over_tasks([task.mean(tasks=len(answers)) for task in answers.values()])
    return Accuracy(accuracy=mean.value, interval=_within(mean))


def _within(mean: MeanEstimate) -> tuple[float, float]:
    low, high = mean.interval
    return max(0.0, low), min(1.0, high)
