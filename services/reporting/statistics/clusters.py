"""Clustered items (the questions of a subject) tell less than as many independent ones: by how much.

A mean's variance is estimated from the sums of clusters (Liang and Zeger 1986; for benchmarks: Miller 2024,
arXiv 2411.00640, section 2.2); its ratio to that of independent items is the design effect. Counts divided by the
design effect are treated as those of independent items (Rao and Scott 1992, "A simple method for the analysis of
clustered binary data"). Items without clusters are clusters of one: their design effect is 1.

A variance that is estimated from few clusters is uncertain itself: tests and intervals use Student's t distribution
with the degrees of freedom of Bell and McCaffrey 2002, "Bias reduction in standard errors for linear regression with
multi-stage samples" (for a mean, with independent items as the working model).
"""

from collections.abc import Sequence
from math import inf

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def design_effect(values: Sequence[float], clusters: Sequence[int]) -> float:
    """How many times larger the variance of the mean of `values` is than if all were independent, at least 1.

    `clusters` numbers the cluster of each value; empty: each is independent. Of a single cluster nothing can be
    estimated: 1. Raises ValueError for sequences of different lengths.
    """
    if not clusters:
        return 1.0
    deviations, sums = _deviations(values, clusters)
    independent = float(np.square(deviations).sum())
    if len(sums) < 2 or independent == 0:
        return 1.0
    clustered = float(np.square(sums).sum()) * len(sums) / (len(sums) - 1)
    return max(1.0, clustered / (independent * len(deviations) / (len(deviations) - 1)))


def degrees_of_freedom(clusters: Sequence[int]) -> float:
    """Of the clustered variance of a mean: one less than there are clusters if all are of one size, otherwise fewer.

    The sums of the items' deviations have a covariance proportional to C = diag(n) - n n'/N for clusters of n of N
    items; Satterthwaite's approximation gives (tr C)^2 / tr C^2. Without clusters, or with a single one, of which
    nothing can be estimated, infinite: the normal distribution.
    """
    sizes = np.unique(np.asarray(clusters), return_counts=True)[1].astype(np.float64)
    if len(sizes) < 2:
        return inf
    items = sizes.sum()
    squares = np.square(sizes).sum()
    return float((items - squares / items) ** 2 / (squares - 2 * (sizes**3).sum() / items + (squares / items) ** 2))


def mean_variance(values: Sequence[float], clusters: Sequence[int]) -> float:
    """Variance of the mean of `values`, which is 0 for a single one; `clusters` as for `design_effect`."""
    count = len(values)
    if count < 2:
        return 0.0
    return float(np.var(values, ddof=1)) / count * design_effect(values, clusters)


def _deviations(values: Sequence[float], clusters: Sequence[int]) -> tuple[Floats, Floats]:
    """Deviations from the mean (N,), and their sum in each cluster (G,)."""
    if len(values) != len(clusters):
        raise ValueError(f"{len(values)} values, but {len(clusters)} clusters")
    deviations: Floats = np.asarray(values, np.float64) - np.mean(values)
    _, members = np.unique(np.asarray(clusters), return_inverse=True)
    return deviations, np.bincount(members, weights=deviations).astype(np.float64)
