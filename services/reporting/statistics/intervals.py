"""The 95 % interval of an accuracy."""

from collections.abc import Sequence
from math import inf, sqrt

from scipy.stats import norm, t

from services.reporting.statistics.clusters import degrees_of_freedom, design_effect

NORMAL_QUANTILE = float(norm.ppf(0.975))
"""The normal quantile of a two-sided 95 % interval."""


def student_quantile(confidence: float, degrees: float) -> float:
    """Of Student's t distribution with so many degrees of freedom; with infinitely many it is the normal one's."""
    return float(norm.ppf(confidence) if degrees == inf else t.ppf(confidence, degrees))


def accuracy_interval(answers: Sequence[float], clusters: Sequence[int] = ()) -> tuple[float, float]:
    """95 % interval of the share of right answers, 1 for each right one and 0 for each wrong one.

    Wilson's interval of the counts divided by their design effect, as Dean and Pagano 2015 recommend for clustered
    samples, with the quantile of Student's t distribution. `clusters` as for `design_effect`. Raises ValueError without
    any answer.
    """
    effect = design_effect(answers, clusters)
    quantile = student_quantile(0.975, degrees_of_freedom(clusters))
    return wilson_interval(sum(answers) / effect, len(answers) / effect, quantile)


def wilson_interval(correct: float, items: float, quantile: float = NORMAL_QUANTILE) -> tuple[float, float]:
    """Score interval of a share of `correct` among `items` (Wilson 1927), by default of 95 %; ends between 0 and 1.

    Counts divided by a design effect need not be whole. scipy has the same formula, but for whole counts only:
    `binomtest(correct, items).proportion_ci(method="wilson")`.

    Raises ValueError unless 0 <= correct <= items and items > 0.
    """
    if items <= 0 or not 0 <= correct <= items:
        raise ValueError(f"{correct} correct of {items} items")
    share, square = correct / items, quantile**2 / items
    centre = (share + square / 2) / (1 + square)
    half = quantile / (1 + square) * sqrt(share * (1 - share) / items + square / (4 * items))
    return max(0.0, centre - half), min(1.0, centre + half)
