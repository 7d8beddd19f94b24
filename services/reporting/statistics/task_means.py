"""Means in which tasks count equally, whatever their sizes, with their intervals and p-values."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from scipy.stats import t

from services.reporting.statistics.clusters import degrees_of_freedom, mean_variance
from services.reporting.statistics.intervals import student_quantile


@dataclass(frozen=True)
class MeanEstimate:
    """A mean, its variance, and the degrees of freedom of the Student's t distribution that its error follows."""

    value: float
    variance: float
    degrees: float = inf

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""
        half = student_quantile(0.975, self.degrees) * sqrt(self.variance)
        return self.value - half, self.value + half

    @property
    def p_value(self) -> float:
        """Two-sided p-value of whether it differs from 0."""
        if self.variance == 0:
            return 1.0 if self.value == 0 else 0.0
        return float(2 * t.sf(abs(self.value) / sqrt(self.variance), self.degrees))


def item_mean(values: Sequence[float], clusters: Sequence[int], even: bool) -> MeanEstimate:
    """Mean of a task's items, or, of a group whose tasks count equally (`even`), of its tasks' means: then these are
    the sample (Student's t). `clusters` numbers the task of each item of a group. Raises ValueError without items."""
    if not values:
        raise ValueError("no items to take the mean of")
    if even and len(set(clusters)) > 1:
        _, members = np.unique(np.asarray(clusters), return_inverse=True)
        means = np.bincount(members, weights=np.asarray(values, np.float64)) / np.bincount(members)
        return MeanEstimate(float(means.mean()), mean_variance(means.tolist(), ()), len(means) - 1)
    return MeanEstimate(float(np.mean(values)), mean_variance(values, clusters), degrees_of_freedom(clusters))


def mean_over_tasks(tasks: Sequence[MeanEstimate]) -> MeanEstimate:
    """Mean over tasks, which are fixed: their errors are independent, so their variances add up. The degrees of
    freedom of the sum are those of Welch 1947 and Satterthwaite 1946."""
    total = sum(task.variance for task in tasks)
    uncertain = sum(task.variance**2 / task.degrees for task in tasks)
    return MeanEstimate(
        sum(task.value for task in tasks) / len(tasks),
        total / len(tasks) ** 2,
        total**2 / uncertain if uncertain > 0 else inf,
    )
