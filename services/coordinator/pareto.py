"""Lower costs against higher accuracy: who dominates whom, and how much a set of networks covers.

Everywhere `costs` has shape (networks, objectives), the less the better, and `accuracies` (networks,).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pymoo.indicators.hv import HV
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from services.coordinator.genomes import FloatArray, IntArray

Costs = FloatArray | Sequence[Sequence[float]]
Accuracies = FloatArray | Sequence[float]


@dataclass(frozen=True)
class ReferencePoint:
    """The corner that a hypervolume is measured from; two hypervolumes compare only at the same one.

    `units` are the unit of each cost (those of the dense network), `cost` the corner's place in each of these units,
    `accuracy` its accuracy. A tenth above the dense network, because at 1 that network would add nothing.
    """

    units: tuple[float, ...]
    cost: float = 1.1
    accuracy: float = 0.0

    @property
    def corner(self) -> tuple[float, ...]:
        """Each cost's place, then the accuracy's."""
        return (self.cost,) * len(self.units) + (self.accuracy,)


def fronts(costs: Costs, accuracies: Accuracies) -> Iterator[IntArray]:
    """Indices, ascending, of the networks that no other dominates, then of those of the rest, and so on (NSGA-II, Deb
    2002). Of networks equal in everything, the first is in the better front."""
    points = _points(costs, accuracies)
    left = np.arange(len(points))
    while len(left):
        distinct = left[np.sort(np.unique(points[left], axis=0, return_index=True)[1])]
        front = distinct[NonDominatedSorting().do(points[distinct], only_non_dominated_front=True)]
        yield front
        left = np.setdiff1d(left, front)


def non_dominated(costs: Costs, accuracies: Accuracies) -> list[int]:
    """Indices of the networks that no other dominates, from the least first cost; of equal networks only the first."""
    points = _points(costs, accuracies)
    front: list[int] = next(fronts(costs, accuracies), np.empty(0, np.int64)).tolist()
    return sorted(front, key=lambda index: tuple(points[index]))


def select_best(costs: Costs, accuracies: Accuracies, count: int) -> list[int]:
    """Indices of `count` networks (or all): front after front; of the last one, those evenly spread over the costs."""
    # Each cost's own range is its unit, so that none counts for more than another.
    values = np.asarray(costs, dtype=np.float64)
    ranges = np.ptp(values, axis=0) if len(values) else np.empty(0)
    ranges = np.where(ranges > 0, ranges, 1)
    chosen: list[int] = []
    for front in fronts(costs, accuracies):
        if len(chosen) + len(front) > count:
            front = front[_farthest(values[front], values[chosen], ranges, count - len(chosen))]  # noqa: PLW2901
        chosen += front.tolist()
        if len(chosen) >= count:
            break
    return chosen


def hypervolume(costs: Costs, accuracies: Accuracies, reference: ReferencePoint) -> float:
    """Volume that the networks dominate up to the reference point: costs in its units, times accuracy.

    Exact. Networks beyond the reference point add nothing.
    """
    front = non_dominated(costs, accuracies)  # sorted, so that dominated networks don't change the last bit
    if not front:
        return 0.0
    points = _points(costs, accuracies)[front]
    points[:, :-1] /= reference.units
    *corner, accuracy = reference.corner
    return float(HV(ref_point=np.array([*corner, -accuracy]))(points))


def _points(costs: Costs, accuracies: Accuracies) -> FloatArray:
    """All to be minimised, shape (networks, objectives + 1)."""
    last = -np.asarray(accuracies, dtype=np.float64)[:, None]
    if not len(last):
        return last
    return np.hstack([np.asarray(costs, dtype=np.float64), last])


def _farthest(values: FloatArray, chosen_before: FloatArray, ranges: FloatArray, count: int) -> list[int]:
    """Indices of `count` of the values, each time the one farthest from all chosen before (the first of several)."""

    def distances(place: FloatArray) -> FloatArray:
        # Divided after subtracting: equal differences stay equal.
        distance: FloatArray = np.linalg.norm((values - place) / ranges, axis=1)
        return distance

    nearest = np.full(len(values), np.inf)
    for place in chosen_before:
        nearest = np.minimum(nearest, distances(place))
    chosen: list[int] = []
    for _ in range(count):
        index = int(nearest.argmax())
        chosen.append(index)
        nearest = np.minimum(nearest, distances(values[index]))
        nearest[index] = -1
    return chosen
