"""The state of a search after each generation: how much the front covers, and how good the predictor is."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from services.coordinator.cost_model import CostModel
from services.coordinator.evaluated import Evaluated
from services.coordinator.pareto import ReferencePoint, hypervolume
from services.coordinator.plan import SearchPlan
from services.coordinator.predictor_quality import kendall_tau, line_through, mean_absolute_error, partial_tau
from services.coordinator.results import as_chosen_by, best_networks, on_all_items, reference_point
from shared.architecture import Architecture
from shared.generation import DrawnRow, GenerationRow


@dataclass(frozen=True)
class Proposed:
    """What a strategy said of a generation when it asked for it, knowing of the first `known` networks: its predictor
    and the accuracies that this predicted, and which networks were drawn at random."""

    predictor: str | None
    predictions: Mapping[Architecture, float]
    drawn: AbstractSet[Architecture]
    known: int


@dataclass(frozen=True)
class _Judged:
    """A network: the accuracy that was predicted, that which the line through sizes says, and the measured one."""

    size: int
    predicted: float
    by_size: float | None
    measured: float


class GenerationRows:
    """Makes the rows, one after the other."""

    def __init__(self, plan: SearchPlan, costs: CostModel) -> None:
        self._plan, self._costs = plan, costs
        self._networks: dict[Architecture, Evaluated] = {}
        self._reference: ReferencePoint | None = None
        self._drawn: list[_Judged] = []
        self.best: list[Evaluated] = []
        """The front, with the accuracies by which it is chosen, from the least of the first cost."""

    @property
    def networks(self) -> int:
        """How many networks there are in all generations so far."""
        return len(self._networks)

    def measured_after_all(self, network: Evaluated) -> None:
        """A network of an earlier generation that had failed is measured by now."""
        self._networks[network.architecture] = network

    def add(self, number: int, proposed: Proposed, evaluated: Sequence[Evaluated]) -> GenerationRow:
        """The row of a generation that is complete."""
        self._networks |= {network.architecture: network for network in evaluated}
        networks = list(self._networks.values())
        self.best = best_networks(as_chosen_by(self._plan, networks))
        batch = self._judged(proposed, on_all_items(self._plan, networks), len(evaluated))
        self._drawn += [judged for network, judged in batch if network in proposed.drawn]
        if self._reference is None:
            self._reference = reference_point(self._plan, self._costs, evaluated)
        quality = _quality([judged for _, judged in batch])
        return GenerationRow(
            generation=number,
            evaluations=self.networks,
            hypervolume=hypervolume(
                [network.costs for network in self.best],
                [network.accuracy or 0.0 for network in self.best],
                self._reference,
            ),
            predictor=proposed.predictor,
            kendall_tau=quality.kendall_tau,
            mean_absolute_error=quality.mean_absolute_error,
            size_tau=quality.size_tau,
            partial_tau=quality.partial_tau,
            size_error=quality.size_error,
            on_drawn=_quality(self._drawn) if self._drawn else None,
            estimated=self._plan.estimates,
        )

    def _judged(
        self, proposed: Proposed, networks: Sequence[Evaluated], last: int
    ) -> list[tuple[Architecture, _Judged]]:
        """What was said of each of the `last` networks, and what was measured."""
        fitted = [network for network in networks[: proposed.known] if network.accuracy is not None]
        line = line_through(
            [self._plan.space.parameters(network.architecture) for network in fitted],
            [network.accuracy or 0.0 for network in fitted],
        )
        judged = []
        for network in networks[len(networks) - last :]:
            predicted = proposed.predictions.get(network.architecture)
            if network.accuracy is None or predicted is None:
                continue
            size = self._plan.space.parameters(network.architecture)
            by_size = None if line is None else line(size)
            judged.append((network.architecture, _Judged(size, predicted, by_size, network.accuracy)))
        return judged


def _quality(judged: Sequence[_Judged]) -> DrawnRow:
    predicted, measured = [one.predicted for one in judged], [one.measured for one in judged]
    sizes = [one.size for one in judged]
    by_size = [(one.by_size, one.measured) for one in judged if one.by_size is not None]
    return DrawnRow(
        networks=len(judged),
        kendall_tau=kendall_tau(predicted, measured),
        size_tau=kendall_tau(sizes, measured),
        partial_tau=partial_tau(predicted, measured, sizes),
        mean_absolute_error=mean_absolute_error(predicted, measured),
        size_error=mean_absolute_error([one for one, _ in by_size], [other for _, other in by_size]),
    )
