"""The few statistics that a search reports."""

from collections.abc import Sequence
from math import isnan, sqrt

import numpy as np
from scipy.stats import kendalltau

NORMAL_QUANTILE = 1.959963984540054  # of 97.5 %: a two-sided 95 % interval


def wilson_interval(correct: float, items: float) -> tuple[float, float]:
    """95 % score interval of a share of `correct` among `items` (Wilson 1927), both ends between 0 and 1.

    Counts divided by a design effect need not be whole. Raises ValueError unless 0 <= correct <= items and items > 0.
    """
    if items <= 0 or not 0 <= correct <= items:
        raise ValueError(f"{correct} correct of {items} items")
    share, square = correct / items, NORMAL_QUANTILE**2 / items
    centre = (share + square / 2) / (1 + square)
    half = NORMAL_QUANTILE / (1 + square) * sqrt(share * (1 - share) / items + square / (4 * items))
    return max(0.0, centre - half), min(1.0, centre + half)


def kendall_tau(predicted: Sequence[float], measured: Sequence[float]) -> float | None:
    """Rank correlation (tau-b, from -1 to 1); None where it is undefined: fewer than two pairs, or all values equal.

    Raises ValueError for sequences of different lengths.
    """
    if len(predicted) != len(measured):
        raise ValueError(f"{len(predicted)} predicted, but {len(measured)} measured values")
    if len(set(predicted)) < 2 or len(set(measured)) < 2:
        return None
    tau = float(kendalltau(predicted, measured).statistic)
    return None if isnan(tau) else tau


def mean_absolute_error(predicted: Sequence[float], measured: Sequence[float]) -> float | None:
    """Mean distance between predicted and measured values, in their unit; None without any.

    Raises ValueError for sequences of different lengths.
    """
    if len(predicted) != len(measured):
        raise ValueError(f"{len(predicted)} predicted, but {len(measured)} measured values")
    if not predicted:
        return None
    return float(np.mean(np.abs(np.subtract(predicted, measured))))
