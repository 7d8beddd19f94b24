"""Fewer parameters against higher accuracy: who dominates whom, and how much a set of networks covers."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ReferencePoint:
    """The corner that a hypervolume is measured from; two hypervolumes compare only at the same one.

    `largest` is the unit of size (the largest network's parameters), `size` the corner's size in that unit, `accuracy`
    its accuracy. A tenth above the largest network, because at 1 that network's accuracy would count for nothing.
    """

    largest: int
    size: float = 1.1
    accuracy: float = 0.0


def ranks(parameters: Sequence[int], accuracies: Sequence[float]) -> list[int]:
    """Non-dominated rank of each network: 0 for the front, 1 for the front of the rest, and so on (NSGA-II, Deb 2002).

    Of networks equal in both, the first has the better rank. O(n log n): networks are taken from the smallest on, and
    each joins the first front whose best accuracy it exceeds.
    """
    heights: list[float] = []  # minus the best accuracy of each front so far: ascending, as bisect wants it
    result = [0] * len(parameters)
    for index in _from_smallest(parameters, accuracies):
        rank = bisect_right(heights, -accuracies[index])
        result[index] = rank
        heights[rank : rank + 1] = [-accuracies[index]]
    return result


def non_dominated(parameters: Sequence[int], accuracies: Sequence[float]) -> list[int]:
    """Indices of the networks that no other dominates, from the smallest; of equal networks only the first."""
    rank = ranks(parameters, accuracies)
    return [index for index in _from_smallest(parameters, accuracies) if rank[index] == 0]


def best(parameters: Sequence[int], accuracies: Sequence[float], count: int) -> list[int]:
    """Indices of `count` networks (or all): fronts in order of rank; of the last one, those evenly spread over size."""
    rank = np.array(ranks(parameters, accuracies), dtype=np.int64)
    sizes = np.array(parameters, dtype=np.int64)
    chosen: list[int] = []
    for level in range(int(rank.max(initial=-1)) + 1):
        front = np.flatnonzero(rank == level)
        if len(chosen) + len(front) > count:
            front = front[_spread(sizes[front], sizes[chosen], count - len(chosen))]
        chosen += front.tolist()
        if len(chosen) >= count:
            break
    return chosen


def hypervolume(parameters: Sequence[int], accuracies: Sequence[float], reference: ReferencePoint) -> float:
    """Area that the networks dominate up to the reference point: size in units of the largest network, times accuracy.

    Exact (a sum of rectangles). Networks beyond the reference point add nothing.
    """
    area, height = 0.0, reference.accuracy
    for index in non_dominated(parameters, accuracies):
        width = reference.size - parameters[index] / reference.largest
        if width > 0 and accuracies[index] > height:
            area += width * (accuracies[index] - height)
            height = accuracies[index]
    return area


def _from_smallest(parameters: Sequence[int], accuracies: Sequence[float]) -> list[int]:
    return sorted(range(len(parameters)), key=lambda index: (parameters[index], -accuracies[index], index))


def _spread(values: NDArray[np.int64], taken: NDArray[np.int64], count: int) -> list[int]:
    """Indices of `count` of the values, each time the one farthest from all taken before (the first of several)."""
    chosen: list[int] = []
    distances = np.abs(values[:, None] - taken[None, :]).min(axis=1, initial=np.iinfo(np.int64).max)
    for _ in range(count):
        index = int(distances.argmax())
        chosen.append(index)
        distances = np.minimum(distances, np.abs(values - values[index]))
        distances[index] = -1
    return chosen
