"""Bayesian ridge regression with weights that can't be negative: how accurate a network is, and how sure that is.

Accuracy is that of the network without any step, less a weight for each step away from it (`StepFeatures` says which
that is: mostly the largest one). No weight is negative: a wider or deeper-equipped network is never predicted worse.
Weights have a Gaussian prior about a common value, which is learnt, too: until data say otherwise, parameters matter
equally wherever they are.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls

from services.coordinator.genomes import Encoding, FloatArray, IntArray
from services.coordinator.step_features import StepFeatures

COMMON_SPREAD = 0.3
"""Prior standard deviation of the weight that all steps have in common, in standard deviations of the accuracies."""
STEP_SPREADS = (0.03, 0.06, 0.12, 0.25)
"""Prior standard deviations of a step's weight about the common one, times what the step takes away; those of accuracy
are 1, as in all of the following."""
SAME_LAYER = 0.8
"""Prior correlation of the steps of one layer: where one matters, the others do."""
PAIR_SPREADS = (0.1, 0.3, 1.0)
"""Prior standard deviations of the weight of a pair of layers, times that of a step."""
NOISE = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Variances of what isn't explained: noise of the measurement, and what is peculiar to a network."""
FREE_SPREAD = 1.0
"""Prior standard deviation of a step that takes no parameters away, as quantization."""
DECIMALS = 6
"""Weights and predictions are rounded, in standard deviations: sums differ in the last bit between BLAS builds and
thread counts, and a resumed search must not rank networks differently because of it."""


@dataclass(frozen=True)
class AdditiveModels:
    """Models, each of which says what a network's accuracy is: that without any step, `largest`, shape (models,), less
    a weight for each feature, `losses`, shape (models, features)."""

    features: StepFeatures
    largest: FloatArray
    losses: FloatArray

    def predict(self, genomes: IntArray) -> FloatArray:
        """What each model says of each network, shape (models, networks)."""
        accuracies: FloatArray = self.largest[:, None] - self.losses @ self.features.of(genomes).T
        return accuracies

    def some(self, which: slice) -> "AdditiveModels":
        """Some of the models."""
        return AdditiveModels(self.features, self.largest[which], self.losses[which])

    def joined(self, others: "AdditiveModels") -> "AdditiveModels":
        """These models and others."""
        largest = np.concatenate([self.largest, others.largest])
        return AdditiveModels(self.features, largest, np.vstack([self.losses, others.losses]))


class MonotoneRidge:
    """The posterior of additive models, given what was measured.

    `genomes` has shape (networks, genes), `accuracies` (networks,), two or more; any unit. `groups` (networks,), from 0
    on, says which were measured on the same items: others may be easier, all accuracies are predicted for the mean over
    groups. The prior's spreads and the
    noise are those with the greatest marginal likelihood (MacKay 1992, Bayesian interpolation), for which weights may
    have any sign. Deterministic. Raises ValueError for fewer than two networks.
    """

    name = "monotone ridge"

    def __init__(
        self, encoding: Encoding, genomes: IntArray, accuracies: FloatArray, groups: IntArray | None = None
    ) -> None:
        if len(genomes) < 2:
            raise ValueError(f"a predictor needs two networks or more, not {len(genomes)}")
        self._features = StepFeatures(encoding)
        self._groups = np.zeros(len(genomes), np.int64) if groups is None else groups
        self._means = group_means(self._groups, accuracies)
        losses = self._means[self._groups] - accuracies  # so that weights are positive
        self._mean, self._scale = float(self._means.mean()), float(losses.std()) or 1.0
        features = self._features.of(genomes)
        # The largest network's accuracy, and what each group's items make easier, have no prior, and so are left out.
        self._centres = np.array([features[self._groups == group].mean(axis=0) for group in range(len(self._means))])
        self._inputs = features - self._centres[self._groups]
        self._targets = losses / self._scale
        self._gram, self._moments = self._inputs.T @ self._inputs, self._inputs.T @ self._targets
        decorrelated = _decorrelated(self._features)
        priors = [_Prior(self._features, decorrelated, *spreads) for spreads in product(STEP_SPREADS, PAIR_SPREADS)]
        tried = list(product(priors, NOISE))
        self._prior, self._noise = tried[int(np.argmax([self._log_evidence(*each) for each in tried]))]
        self._root = cholesky(self._precision(self._prior, self._noise))

    @property
    def unexplained(self) -> float:
        """The variance of accuracies about what is predicted: noise, and what is peculiar to each network."""
        return self._noise * self._scale**2

    @property
    def offsets(self) -> FloatArray:
        """What each group's items make easier than the mean over groups, shape (groups,), by the most probable model;
        in the unit of the accuracies fitted to."""
        largest = self._means + self._centres @ self.mode.losses[0]
        offsets: FloatArray = largest - largest.mean()
        return offsets

    @cached_property
    def mode(self) -> AdditiveModels:
        """The most probable model, alone."""
        return self._models([self._mode(self._targets, np.zeros(self._features.count + 1))])

    def predict(self, genomes: IntArray) -> FloatArray:
        """Predicted accuracy of each network by the most probable model, shape (networks,), in the unit of the
        accuracies fitted to."""
        standardised = (self.mode.predict(genomes)[0] - self._mean) / self._scale
        predicted: FloatArray = np.round(standardised, DECIMALS) * self._scale + self._mean
        return predicted

    def draw(self, count: int, rng: np.random.Generator) -> AdditiveModels:
        """Models drawn from the posterior: each is the mode for perturbed data and a perturbed prior (Papandreou and
        Yuille 2010, Gaussian sampling by local perturbations), which is exact but for the bound at 0."""
        networks, spread = len(self._targets), self._noise**0.5
        drawn = []
        for _ in range(count):
            targets = self._targets + spread * rng.standard_normal(networks)
            drawn.append(self._mode(targets, rng.standard_normal(self._features.count + 1)))
        return self._models(drawn)

    def _mode(self, targets: FloatArray, deviation: FloatArray) -> tuple[float, FloatArray]:
        """The most probable accuracy of the largest network, and weights, shape (features,), for losses of `targets`,
        shape (networks,), and a prior that deviates by `deviation`, in its standard deviations, shape (features + 1,).
        """
        moments = self._prior.root.T @ deviation
        moments[:-1] += self._inputs.T @ targets / self._noise
        # The least squares of the whitened system, with weights of at least 0.
        weights, _ = nnls(self._root, solve_triangular(self._root, moments, trans="T"))
        losses = np.round(weights[:-1], DECIMALS)
        largest = self._centres @ losses - group_means(self._groups, targets)
        return float(largest.mean()), losses

    def _models(self, modes: list[tuple[float, FloatArray]]) -> AdditiveModels:
        largest = np.round([one for one, _ in modes], DECIMALS)
        losses = np.array([weights for _, weights in modes])
        return AdditiveModels(self._features, self._mean + self._scale * largest, self._scale * losses)

    def _precision(self, prior: "_Prior", noise: float) -> FloatArray:
        """The posterior's precision matrix, of all weights and the common one."""
        precision = prior.precision.copy()
        precision[:-1, :-1] += self._gram / noise
        return precision

    def _log_evidence(self, prior: "_Prior", noise: float) -> float:
        """The logarithm of the marginal likelihood, but for a constant."""
        root = cholesky(self._precision(prior, noise))
        explained = solve_triangular(root, np.append(self._moments / noise, 0.0), trans="T")
        determinants = np.log(np.diag(root)).sum() - np.log(np.diag(prior.root)).sum()
        residual = self._targets @ self._targets / noise - explained @ explained
        degrees = len(self._targets) - len(self._means)
        return round(float(-determinants - (residual + degrees * np.log(noise)) / 2), DECIMALS)


def group_means(groups: IntArray, values: FloatArray) -> FloatArray:
    """The mean of each group's values, shape (groups,); groups are numbered from 0 on."""
    means: FloatArray = np.bincount(groups, values) / np.bincount(groups)
    return means


class _Prior:
    """The prior of the weights and of what they have in common: `root` times them is standard normal.

    It is triangular, shape (features + 1, features + 1): rows for the weights' deviations from the common one, and the
    last for that itself.
    """

    def __init__(self, features: StepFeatures, decorrelated: FloatArray, steps: float, pairs: float) -> None:
        known, count = len(features.weights), features.count
        common = np.zeros(count)
        common[:known] = features.weights
        spreads = np.full(count, steps * pairs)
        spreads[:known] = np.where(features.weights > 0, steps * features.weights, FREE_SPREAD)
        self.root: FloatArray = np.zeros((count + 1, count + 1))
        self.root[:-1, :-1] = decorrelated / spreads
        self.root[:-1, -1] = -self.root[:-1, :-1] @ common
        self.root[-1, -1] = 1 / COMMON_SPREAD
        self.precision: FloatArray = self.root.T @ self.root


def _decorrelated(features: StepFeatures) -> FloatArray:
    """What makes weights of standard deviation 1 independent of each other, shape (features, features), triangular."""
    known = len(features.weights)
    correlations = np.eye(features.count)
    same = features.of_layers & (features.places[:, None] == features.places)
    correlations[:known, :known] += SAME_LAYER * (same & ~np.eye(known, dtype=bool))
    whitening: FloatArray = solve_triangular(cholesky(correlations, lower=True), np.eye(features.count), lower=True)
    return whitening
