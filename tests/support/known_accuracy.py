"""Accuracies that are known of all networks of a space: on them a strategy is tried in seconds."""

from abc import ABC, abstractmethod

from services.coordinator.cost_model import CostModel
from services.coordinator.evaluated import Evaluated
from services.coordinator.genomes import BoolArray, Encoding, FloatArray, IntArray
from services.coordinator.plan import own_slice
from shared.space import SearchSpace


class KnownAccuracy(ABC):
    """What is true of the networks of a space, and what is measured of them.

    Attributes:
        space, costs: the networks, and their only cost: parameters.
        items: how many a search reads at most; None where measurements are exact.
        slices: of these items; each network is measured on one, as with `search.slices`.
    """

    def __init__(self, space: SearchSpace, items: int | None, slices: int = 1) -> None:
        self.space, self.items, self.slices = space, items, slices
        self.costs = CostModel(space, ("parameters",), "bfloat16")
        self._encoding = Encoding(space)

    @property
    def items_each(self) -> float:
        """Items that a measurement reads, on average."""
        return (self.items or 0) / self.slices

    @abstractmethod
    def exact(self, genomes: IntArray) -> FloatArray:
        """What is true, shape (networks,)."""

    @abstractmethod
    def answers(self, genomes: IntArray) -> tuple[BoolArray, FloatArray]:
        """Whether each network answers each item right, and how sure it is of the right answer; both (networks, items).
        Only where items are counted."""

    @abstractmethod
    def share(self, costs: FloatArray, chosen_by: FloatArray, exact: FloatArray) -> float:
        """How much of what can be reached those networks have which would be chosen by some accuracies, by what is true
        of them. `costs` has shape (networks, 1), the others (networks,)."""

    def measure(self, genomes: IntArray) -> list[Evaluated]:
        """The networks as they are measured: the same whenever that is."""
        networks, costs = self._encoding.decode(genomes), self.costs.of_genomes(genomes).tolist()
        if self.items is None:
            known = zip(networks, costs, self.exact(genomes).tolist(), strict=True)
            return [Evaluated(network, tuple(cost), accuracy) for network, cost, accuracy in known]
        evaluated = []
        for network, cost, correct, sureness in zip(networks, costs, *self.answers(genomes), strict=True):
            read = own_slice(network, self.items, self.slices)
            accuracy, sure = float(correct[read].mean()), tuple(sureness[read].tolist())
            evaluated.append(Evaluated(network, tuple(cost), accuracy, sure, str(read.start)))
        return evaluated
