"""Which items a network answered right, and its accuracy on them with the 95 % interval."""

from dataclasses import dataclass
from functools import cached_property

from services.reporting.statistics.intervals import accuracy_interval
from services.reporting.statistics.task_means import MeanEstimate, plus_four_mean
from shared.messages import ItemScores, Measurement, correct


@dataclass(frozen=True)
class ItemAnswers:
    """The scores of a network on all tasks, and the metric of each that says which answers were right."""

    scores: tuple[ItemScores, ...]
    metrics: tuple[str, ...]

    @classmethod
    def of(cls, measurement: Measurement, metrics: tuple[str, ...]) -> "ItemAnswers":
        """From a measurement."""
        return cls(measurement.scores, metrics)

    @cached_property
    def values(self) -> list[float]:
        """A number for each item, 1 where the answer was right, the tasks one after another."""
        return correct(self.scores, self.metrics)

    @cached_property
    def clusters(self) -> tuple[int, ...]:
        """The number of each item's cluster: its task within a group, otherwise one of its own. Empty if there are no
        groups."""
        if not any(task.clusters for task in self.scores):
            return ()
        numbers: list[int] = []
        for task in self.scores:
            first = max(numbers, default=-1) + 1
            numbers += [first + number for number in (task.clusters or range(len(task.items)))]
        return tuple(numbers)

    def on_same_items(self, other: "ItemAnswers") -> bool:
        """Whether both were measured on the same items, which may have changed in between; earlier releases kept no
        digest that could be compared."""
        pairs = list(zip(self.scores, other.scores, strict=True))
        return all(mine.items == theirs.items for mine, theirs in pairs) and all(
            not theirs.items_digest or mine.items_digest == theirs.items_digest for mine, theirs in pairs
        )

    @property
    def accuracy(self) -> float:
        """Share of all items answered right: the accuracy that the search uses."""
        return sum(self.values) / len(self.values)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy."""
        return accuracy_interval(self.values, self.clusters)

    def each(self) -> list["ItemAnswers"]:
        """The answers of each task by itself."""
        return [ItemAnswers((task,), (metric,)) for task, metric in zip(self.scores, self.metrics, strict=True)]

    @property
    def even(self) -> bool:
        """Whether this is a group whose tasks all count equally."""
        return len(self.scores) == 1 and self.metrics[0] in self.scores[0].even

    def mean(self, other: "ItemAnswers | None" = None, tasks: int = 1) -> MeanEstimate:
        """Mean of a task by its own rule; with another network given, the mean difference from it. `tasks` counts the
        tasks that a mean is taken over, of which this is one."""
        if other is None:
            return plus_four_mean(self.values, self.clusters, self.even, (0, 1), tasks)
        return plus_four_mean(differences(self, other), self.clusters, self.even, (-1, 1), tasks)


def differences(one: ItemAnswers, other: ItemAnswers) -> list[float]:
    """Item by item. Raises ValueError if the networks were not measured on as many items."""
    return [mine - theirs for mine, theirs in zip(one.values, other.values, strict=True)]
