"""Means in which tasks count equally, whatever their sizes, with their intervals and p-values."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from services.reporting.statistics.clusters import degrees_of_freedom, design_effect, mean_variance
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


def plus_four_mean(
    values: Sequence[float], clusters: Sequence[int], even: bool, extremes: tuple[float, float], tasks: int = 1
) -> MeanEstimate:
    """The same of answers (`extremes` 0 and 1) or of differences between answers (-1 and 1), as one of so many tasks
    that a mean is taken over: with a variance that isn't 0 because no item happened to differ.

    It is no less than that of the items and four more, two at each extreme, a share of them in each task: Price and
    Bonett 2004, "An improved confidence interval for a linear function of binomial proportions" (for paired answers of
    a single task: Bonett and Price 2012, "Adjusted Wald confidence interval for a difference of binomial proportions
    based on paired data", with half as many, which leaves one-sided bounds too narrow). Where no item of any task
    differs, the interval is as wide as Tango's of all items together. The mean itself stays as it is.
    """
    estimate = item_mean(values, clusters, even)
    weights = _weights(len(values), clusters, even)
    items = 1 / float(np.square(weights).sum())
    if not even:
        items /= design_effect(values, clusters)
    added = 4 / tasks

    def moment(power: int) -> float:
        seen = float(weights @ np.asarray(values, np.float64) ** power)
        return (items * seen + added * float(np.mean([each**power for each in extremes]))) / (items + added)

    return replace(estimate, variance=max(estimate.variance, (moment(2) - moment(1) ** 2) / (items + added)))


def _weights(items: int, clusters: Sequence[int], even: bool) -> NDArray[np.float64]:
    """How much each item counts in `item_mean`."""
    if not (even and clusters):
        return np.full(items, 1 / items)
    _, members, sizes = np.unique(np.asarray(clusters), return_inverse=True, return_counts=True)
    return 1 / (len(sizes) * sizes[members])


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
