"""How accurate measured networks probably are: what was measured of each, and what is known of all others.

On some hundred items an accuracy is off by two points, and of many networks those look best that were lucky. How sure
the answers are says more than which of them are right; and a model of all networks says more of one that was measured
on few items than these do.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from services.coordinator.evaluated import Evaluated
from services.coordinator.genomes import Encoding, FloatArray
from services.coordinator.monotone_ridge import MonotoneRidge
from shared.space import SearchSpace

CALIBRATED = 8
"""Networks from which the line from sureness to accuracy can be drawn."""
LEAST_OWN = 0.1
"""What a network's own measurement counts at least against what the model says of it."""
DECIMALS = 12
"""Accuracies are rounded, so that the last bit decides nothing."""


def accuracies_by_sureness(evaluated: Sequence[Evaluated]) -> FloatArray:
    """Accuracies of measured networks, shape (networks,), from the mean sureness of their answers: by the least-squares
    line through the accuracies over it. Where sureness isn't known, or says nothing, the accuracies as measured.
    """
    accuracies = np.array([one.accuracy for one in evaluated], np.float64)
    if len(accuracies) < CALIBRATED or not all(one.sureness for one in evaluated):
        return accuracies
    sureness = np.array([np.mean(one.sureness) for one in evaluated])
    deviations = sureness - sureness.mean()
    spread = float(deviations @ deviations)
    slope = float(deviations @ accuracies) / spread if spread else 0.0
    if slope <= 0:
        return accuracies
    calibrated: FloatArray = np.round(accuracies.mean() + slope * deviations, DECIMALS)
    return calibrated


def estimated(space: SearchSpace, evaluated: Sequence[Evaluated]) -> list[Evaluated]:
    """Evaluated networks, each with the accuracy that it probably has; those that failed stay as they are.

    It lies between that of its own measurement and what a monotone ridge regression fitted to all of them says:
    the nearer to the latter, the more of what this leaves unexplained is explained by the choice of items.
    """
    measured = [one for one in evaluated if one.accuracy is not None]
    if len(measured) < 2:
        return list(evaluated)
    encoding = Encoding(space)
    accuracies = accuracies_by_sureness(measured)
    genomes = encoding.encode([one.architecture for one in measured])
    model = MonotoneRidge(encoding, genomes, accuracies)
    predicted = model.predict(genomes)
    own = max(LEAST_OWN, 1 - _of_the_items(measured, accuracies) / model.unexplained)
    probable = np.round(predicted + own * (accuracies - predicted), DECIMALS)
    known = dict(zip((one.architecture for one in measured), probable.tolist(), strict=True))
    return [one if one.accuracy is None else replace(one, accuracy=known[one.architecture]) for one in evaluated]


def _of_the_items(measured: Sequence[Evaluated], accuracies: FloatArray) -> float:
    """The variance that the choice of items gives to a network's accuracy, compared with others on the same items: that
    of a mean over items, of what is left when each network's and each item's mean is taken away. 0 if it isn't known.
    """
    if len({len(one.sureness) for one in measured}) > 1 or not measured[0].sureness:
        return 0.0
    answers = np.array([one.sureness for one in measured], np.float64)
    means = answers.mean(axis=1)
    networks, items = answers.shape
    if items < 2 or not means.std():
        return 0.0
    left = answers - means[:, None] - answers.mean(axis=0) + means.mean()
    scale = float(accuracies.std() / means.std())
    variance: float = scale**2 * float(np.square(left).sum()) / ((networks - 1) * (items - 1) * items)
    return variance
