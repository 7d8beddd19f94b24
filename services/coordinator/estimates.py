"""How accurate measured networks probably are: what was measured of each, and what is known of all others.

On some hundred items an accuracy is off by two points, and of many networks those look best that were lucky. How sure
the answers are says more than which of them are right; and a model of all networks says more of one that was measured
on few items than these do.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from services.coordinator.evaluated import Evaluated
from services.coordinator.genomes import Encoding, FloatArray, IntArray
from services.coordinator.monotone_ridge import MonotoneRidge, group_means
from shared.space import SearchSpace

CALIBRATED = 8
"""Networks from which the line from sureness to accuracy can be drawn."""
LEAST_OWN = 0.1
"""What a network's own measurement counts at least against what the model says of it."""
DECIMALS = 12
"""Accuracies are rounded, so that the last bit decides nothing."""


def groups_of(evaluated: Sequence[Evaluated]) -> IntArray:
    """Numbers, shape (networks,), that are equal for networks that were measured on the same items."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(one.items, len(numbers)) for one in evaluated], np.int64)


def accuracies_by_sureness(evaluated: Sequence[Evaluated]) -> FloatArray:
    """Accuracies of measured networks, shape (networks,), each on its items, from the mean sureness of its answers: by
    the least-squares line through the accuracies over it, of the same slope for all items. Where sureness isn't known,
    or says nothing, the accuracies as measured.
    """
    accuracies = np.array([one.accuracy for one in evaluated], np.float64)
    if len(accuracies) < CALIBRATED or not all(one.sureness for one in evaluated):
        return accuracies
    groups = groups_of(evaluated)
    sureness = np.array([np.mean(one.sureness) for one in evaluated])
    deviations = sureness - group_means(groups, sureness)[groups]
    spread = float(deviations @ deviations)
    slope = float(deviations @ accuracies) / spread if spread else 0.0
    if slope <= 0:
        return accuracies
    calibrated: FloatArray = np.round(group_means(groups, accuracies)[groups] + slope * deviations, DECIMALS)
    return calibrated


class Estimates:
    """What is known of evaluated networks, some of which may have failed; those stay as they are.

    Attributes:
        probable: each with the accuracy that it probably has on all items: between that of its own measurement and what
            a monotone ridge regression fitted to all of them says; the nearer to the latter, the more of what this
            leaves unexplained is explained by the choice of items.
        levelled: each with the accuracy that was measured, less what its items make easier, by the same regression.
    """

    def __init__(self, space: SearchSpace, evaluated: Sequence[Evaluated]) -> None:
        measured = [one for one in evaluated if one.accuracy is not None]
        self.probable = self.levelled = list(evaluated)
        if len(measured) < 2:
            return
        encoding, groups = Encoding(space), groups_of(measured)
        accuracies = accuracies_by_sureness(measured)
        genomes = encoding.encode([one.architecture for one in measured])
        model = MonotoneRidge(encoding, genomes, accuracies, groups)
        easier, predicted = model.offsets[groups], model.predict(genomes)
        own = max(LEAST_OWN, 1 - _of_the_items(measured, groups, accuracies) / model.unexplained)
        self.probable = _with(evaluated, measured, predicted + own * (accuracies - easier - predicted))
        self.levelled = _with(evaluated, measured, np.array([one.accuracy for one in measured], np.float64) - easier)


def _with(evaluated: Sequence[Evaluated], measured: Sequence[Evaluated], accuracies: FloatArray) -> list[Evaluated]:
    rounded = np.round(accuracies, DECIMALS).tolist()
    known = dict(zip((one.architecture for one in measured), rounded, strict=True))
    return [one if one.accuracy is None else replace(one, accuracy=known[one.architecture]) for one in evaluated]


def _of_the_items(measured: Sequence[Evaluated], groups: IntArray, accuracies: FloatArray) -> float:
    """The variance that the choice of items gives to a network's accuracy, compared with others on the same items: that
    of a mean over items, of what is left when each network's and each item's mean is taken away. 0 if it isn't known.
    """
    variances, sureness = [], np.array([np.mean(one.sureness) if one.sureness else 0.0 for one in measured])
    for group in range(groups.max() + 1):
        some = [one.sureness for one, number in zip(measured, groups.tolist(), strict=True) if number == group]
        networks, items = len(some), len(some[0])
        if networks < 2 or items < 2 or len({len(one) for one in some}) > 1:
            continue
        answers = np.array(some, np.float64)
        left = answers - answers.mean(axis=1, keepdims=True) - answers.mean(axis=0) + answers.mean()
        variances.append(float(np.square(left).sum()) / ((networks - 1) * (items - 1) * items))
    spread = (sureness - group_means(groups, sureness)[groups]).std()
    scale = (accuracies - group_means(groups, accuracies)[groups]).std() / spread if spread else 0.0
    return float(scale**2 * np.mean(variances)) if variances else 0.0
