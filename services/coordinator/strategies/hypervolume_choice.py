"""Which networks are expected to add most hypervolume to a front."""

import numpy as np
from scipy.stats.qmc import Halton

from services.coordinator.genomes import FloatArray, IntArray

LIMITS = 256
"""Limits to costs over which accuracies are averaged: that is the hypervolume."""
ABOUT_AS_MUCH = 0.9
"""Of the greatest gain."""
DECIMALS = 12
"""Gains are rounded, so that the last bit decides nothing."""


def most_hypervolume(
    costs: FloatArray, accuracies: FloatArray, known: int, count: int, layers: IntArray | None = None
) -> list[int]:
    """Indices of `count` networks (or all) that add most hypervolume to the first `known`, the best first.

    `costs` has shape (networks, objectives), `accuracies` (draws, networks); hypervolume is averaged over draws. It is
    the accuracy of the best network within limits to the costs, averaged over all limits. Given the networks' `layers`
    (`Encoding.layers`), of networks that add about as much that one is taken which shares most with one taken before.
    """
    gains = _Gains(costs, accuracies, known)
    shared = np.zeros(len(costs), np.int64)
    chosen: list[int] = []
    while len(chosen) < min(count, len(costs) - known):
        best = gains.about_as_good(1.0 if layers is None or not chosen else ABOUT_AS_MUCH)
        index = max(best, key=lambda place: (shared[place], gains.bounds[place]))
        gains.take(index)
        chosen.append(index)
        if layers is not None:
            shared = np.maximum(shared, _in_common(layers, index))
    return chosen


class _Gains:
    """What each network would add, on average over draws, to those that are taken.

    `bounds`, shape (networks,), is never less than that: what a network adds only falls as others are taken.
    """

    def __init__(self, costs: FloatArray, accuracies: FloatArray, known: int) -> None:
        low, high = costs.min(axis=0), costs.max(axis=0)
        limits = low + (high - low) * Halton(costs.shape[1], scramble=False).random(LIMITS)
        self._within = (costs[:, None, :] <= limits).all(axis=2)
        self._accuracies = np.ascontiguousarray(accuracies.T)  # (networks, draws)
        self._best = np.repeat(self._accuracies.min(axis=0)[:, None], LIMITS, axis=1)
        self.bounds = np.full(len(costs), np.inf)
        for index in range(known):
            self.take(index)
        self.bounds[known:] = [self._of(index) for index in range(known, len(costs))]

    def take(self, index: int) -> None:
        """The network is taken, and adds nothing any more."""
        within = self._within[index]
        self._best[:, within] = np.maximum(self._best[:, within], self._accuracies[index, :, None])
        self.bounds[index] = -np.inf

    def about_as_good(self, share: float) -> list[int]:
        """The network that adds most (the first of several), and those that add at least this share of it."""
        best = int(self.bounds.argmax())
        while (current := self._of(best)) < self.bounds[best]:
            self.bounds[best] = current
            best = int(self.bounds.argmax())
        enough = share * self.bounds[best]
        others = []
        for index in np.flatnonzero(self.bounds >= enough).tolist() if share < 1 else []:
            self.bounds[index] = self._of(index)
            if self.bounds[index] >= enough:
                others.append(index)
        return others or [best]

    def _of(self, index: int) -> float:
        within = self._within[index]
        added = np.maximum(self._accuracies[index, :, None] - self._best[:, within], 0)
        return round(float(added.sum()), DECIMALS)


def _in_common(layers: IntArray, one: int) -> IntArray:
    """How many of its first layers each network has in common with one of them, shape (networks,)."""
    agreeing = np.logical_and.accumulate(layers == layers[one], axis=1)
    common: IntArray = (agreeing & (layers > 0)).sum(axis=1)
    return common
