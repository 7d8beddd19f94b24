"""The few statistics that a search reports."""

from collections.abc import Sequence
from math import isnan, sqrt

import numpy as np
from scipy.stats import binomtest, kendalltau

NORMAL_QUANTILE = 1.959963984540054  # of 97.5 %: a two-sided 95 % interval


def wilson_interval(correct: float, items: int) -> tuple[float, float]:
    """95 % score interval of a share of `correct` among `items` (Wilson 1927), both ends between 0 and 1.

    Raises ValueError unless 0 <= correct <= items and items > 0.
    """
    if items < 1 or not 0 <= correct <= items:
        raise ValueError(f"{correct} correct of {items} items")
    share, square = correct / items, NORMAL_QUANTILE**2 / items
    centre = (share + square / 2) / (1 + square)
    half = NORMAL_QUANTILE / (1 + square) * sqrt(share * (1 - share) / items + square / (4 * items))
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar(one: Sequence[float], other: Sequence[float]) -> float:
    """Two-sided p-value of the exact McNemar test of whether two networks differ on the same items.

    `one` and `other` hold a number an item, 1 where the answer was right and 0 where not. Only items that exactly one
    of them answered right count; without any the p-value is 1. Raises ValueError for sequences of different lengths.
    """
    pairs = list(zip(one, other, strict=True))
    only_one = sum(first > second for first, second in pairs)
    only_other = sum(first < second for first, second in pairs)
    if only_one + only_other == 0:
        return 1.0
    return float(binomtest(only_one, only_one + only_other, 0.5).pvalue)


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
