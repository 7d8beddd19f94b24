"""By how much several networks are better than their random counterparts on the same items: a mean with an interval."""

from collections.abc import Sequence
from math import inf, sqrt

import numpy as np

from services.reporting.statistics.clusters import degrees_of_freedom, mean_variance
from services.reporting.statistics.intervals import student_quantile


def mean_advantage(
    differences: Sequence[Sequence[float]], clusters: Sequence[int] = ()
) -> tuple[float, tuple[float, float]]:
    """Mean of all differences and its 95 % interval; `differences` holds, for each pair of networks, a number per item.

    With other items or other pairs the mean would be different: the variance is clustered both ways (Cameron,
    Gelbach and Miller 2011, "Robust inference with multiway clustering", equation 2.5: items' plus pairs' less that of
    single differences, and no less than either), with Student's t of one degree of freedom less than there are pairs,
    or fewer if there are few clusters. A single pair says nothing about others: then the interval is for the items
    alone. `clusters` as for `design_effect`. Raises ValueError without any difference.
    """
    table = np.asarray(differences, np.float64)
    if table.ndim != 2 or not table.size:
        raise ValueError("no differences, or not as many of each pair")
    pairs = len(table)
    mean = float(table.mean())
    of_items = mean_variance(table.mean(axis=0).tolist(), clusters)
    of_pairs = mean_variance(table.mean(axis=1).tolist(), ())
    single = mean_variance(table.ravel().tolist(), ())
    variance = max(of_items, of_pairs, of_items + of_pairs - single)
    degrees = min(pairs - 1 if pairs > 1 else inf, degrees_of_freedom(clusters))
    half = student_quantile(0.975, degrees) * sqrt(variance)
    return mean, (max(-1.0, mean - half), min(1.0, mean + half))
