"""How well an accuracy predictor predicts: rank correlations, with and without size, and errors."""

from collections.abc import Callable, Sequence
from math import isnan

import numpy as np
from scipy.stats import kendalltau

DECIMALS = 12
"""To which accuracies are compared: smaller differences are rounding errors."""


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


def partial_tau(one: Sequence[float], other: Sequence[float], given: Sequence[float]) -> float | None:
    """Rank correlation (tau-b, from -1 to 1) of two quantities with a third held constant: of the residuals of both
    after a linear fit to the third, as in Yule's partial correlation (1907, Proc. R. Soc. A 79). None where nothing is
    left of one of them.

    Kendall's own partial tau (1942) is undefined where the third quantity orders one of the two completely, as size
    orders what is predicted of a front.

    Raises ValueError for sequences of different lengths.
    """
    residuals = []
    for values in (one, other):
        line = line_through(given, values)
        if line is None:
            return None
        residuals.append([round(value - line(place), DECIMALS) for value, place in zip(values, given, strict=True)])
    return kendall_tau(*residuals)


def line_through(places: Sequence[float], values: Sequence[float]) -> Callable[[float], float] | None:
    """The least-squares straight line; None unless there are two different places.

    Raises ValueError for sequences of different lengths.
    """
    if len(places) != len(values):
        raise ValueError(f"{len(places)} places, but {len(values)} values")
    if len(set(places)) < 2:
        return None
    middle, height = float(np.mean(places)), float(np.mean(values))
    deviations = np.subtract(places, middle)
    slope = float(deviations @ np.subtract(values, height)) / float(deviations @ deviations)
    return lambda place: height + slope * (place - middle)


def mean_absolute_error(predicted: Sequence[float], measured: Sequence[float]) -> float | None:
    """Mean distance between predicted and measured values, in their unit; None without any.

    Raises ValueError for sequences of different lengths.
    """
    if len(predicted) != len(measured):
        raise ValueError(f"{len(predicted)} predicted, but {len(measured)} measured values")
    if not predicted:
        return None
    return float(np.mean(np.abs(np.subtract(predicted, measured))))
