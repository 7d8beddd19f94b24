"""Accuracy predictors: learn from the networks measured so far how accurate any other network will be.

As in LINAS (arXiv 2205.10358), ridge regression and RBF support vector regression compete on one-hot genes.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from services.coordinator.genomes import Encoding, FloatArray, IntArray

RIDGE_ALPHAS = (0.1, 1.0, 10.0, 100.0)
SVR_COSTS = (1.0, 10.0, 100.0)
SVR_GAMMAS = (0.1, 0.3, 1.0)
"""The RBF kernel's gamma, times the number of genes of layers, which is the scale of squared distances between
genomes."""
SVR_TOLERANCE = 0.1
"""Errors below this many standard deviations cost nothing."""

MAX_SAMPLES = 500
"""Networks that models are compared with, and SVR is fitted to, at most: its time grows with their square."""
FOLDS = 5
SVR_MIN_SAMPLES = 10
"""With fewer networks, folds are too small to choose a kernel's width by, and only ridge regression is tried."""
DECIMALS = 6
"""Predictions are rounded, in standard deviations: sums differ in the last bit between BLAS builds and thread counts,
and a resumed search must not rank networks differently because of it."""


class _Model(Protocol):
    def fit(self, features: FloatArray, targets: FloatArray) -> object: ...

    def predict(self, features: FloatArray) -> FloatArray: ...


class Predictor:
    """The better of ridge and RBF-SVR by cross-validation, fitted to the networks given.

    Of more than `MAX_SAMPLES` networks, every k-th decides between them, and SVR is fitted to these alone.

    `genomes` has shape (networks, genes), `accuracies` (networks,), two or more; any unit. The fit is deterministic and
    depends on the order of the networks. Raises ValueError for fewer than two networks.
    """

    def __init__(self, encoding: Encoding, genomes: IntArray, accuracies: FloatArray) -> None:
        if len(genomes) < 2:
            raise ValueError(f"a predictor needs two networks or more, not {len(genomes)}")
        self._encoding = encoding
        self._mean = float(accuracies.mean())
        self._scale = float(accuracies.std()) or 1.0
        features, targets = encoding.features(genomes), (accuracies - self._mean) / self._scale
        layered = sum(gene.layer is not None for gene in encoding.space.genes)
        candidates = list(_candidates(len(genomes), layered))
        some = slice(None, None, -(-len(genomes) // MAX_SAMPLES))
        errors = [_cross_validate(model, features[some], targets[some]) for _, model in candidates]
        self.name, self._model = candidates[int(np.argmin(errors))]
        fitted = some if self.name == "svr" else slice(None)
        self._model.fit(features[fitted], targets[fitted])

    def predict(self, genomes: IntArray) -> FloatArray:
        """Predicted accuracy of each network, shape (networks,), in the unit of the accuracies fitted to."""
        if not len(genomes):
            return np.empty(0)
        scores = self._model.predict(self._encoding.features(genomes))
        return np.round(scores, DECIMALS) * self._scale + self._mean


def _candidates(samples: int, layered: int) -> Iterator[tuple[str, _Model]]:
    from sklearn.linear_model import Ridge  # takes over a second to load, which not all searches need, and none at once
    from sklearn.svm import SVR

    for alpha in RIDGE_ALPHAS:
        yield "ridge", Ridge(alpha=alpha)
    if samples >= SVR_MIN_SAMPLES:
        for cost in SVR_COSTS:
            for gamma in SVR_GAMMAS:
                yield "svr", SVR(C=cost, gamma=gamma / layered, epsilon=SVR_TOLERANCE)


def _cross_validate(model: _Model, features: FloatArray, targets: FloatArray) -> float:
    """Mean squared error on networks left out, rounded so that the last bit decides nothing."""
    # Every k-th network, so that each fold has its share of every generation.
    folds = min(FOLDS, len(targets))
    fold = np.arange(len(targets)) % folds
    predicted = np.empty_like(targets)
    for left_out in range(folds):
        model.fit(features[fold != left_out], targets[fold != left_out])
        predicted[fold == left_out] = model.predict(features[fold == left_out])
    return round(float(np.mean((predicted - targets) ** 2)), DECIMALS)
