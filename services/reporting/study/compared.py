"""Which networks of a study go with which: what was chosen at a size, and what is measured beside it."""

from dataclasses import dataclass
from statistics import fmean

from services.coordinator.study.networks import FineTuning, NetworkKind, StudyNetwork, of_kind
from services.reporting.item_answers import ItemAnswers
from services.reporting.study.answers import StudyAnswers
from services.reporting.study.difference import Answers
from shared.architecture import Quantization


class Beside:
    """The networks of a study by what they belong to."""

    def __init__(self, answers: StudyAnswers) -> None:
        self.answers = answers
        self.networks = answers.study.networks

    def base(self) -> StudyNetwork | None:
        """The untouched model."""
        return next(iter(of_kind(self.networks, "base")), None)

    def dense(self, supernet: str) -> StudyNetwork | None:
        """A whole super-network."""
        return next((each for each in of_kind(self.networks, "dense") if each.supernet == supernet), None)

    def chosen(self, supernet: str, chosen_on: str, size: float) -> StudyNetwork | None:
        """What a search chose at a size."""
        return next(iter(self.going_with("chosen", supernet, chosen_on, size)), None)

    def going_with(self, kind: NetworkKind, supernet: str, chosen_on: str, size: float) -> list[StudyNetwork]:
        """The networks of a kind that go with what a search chose at a size, or that itself."""
        asked = (supernet, chosen_on)
        networks = [each for each in of_kind(self.networks, kind) if (each.supernet, each.chosen_on) == asked]
        return [each for each in networks if self.size_of(each) == size]

    def alone(self, supernet: str, size: float) -> list[StudyNetwork]:
        """What was chosen at a size and cut out of the untouched model instead, fine-tuned or not."""
        networks = [each for each in of_kind(self.networks, "alone") if each.supernet == supernet]
        return [each for each in networks if each.times_smaller == size]

    def baselines(self, size: float) -> list[StudyNetwork]:
        """What the baselines made at a size."""
        return [each for each in of_kind(self.networks, "baseline") if each.times_smaller == size]

    def size_of(self, network: StudyNetwork) -> float | None:
        """The size at which a network is compared. A heuristic has none by itself: that of its search's chosen network
        that is nearest to it in parameters, or, for one from elsewhere, the size that is nearest to its own; it may be
        larger than that (see `is_of`)."""
        if network.kind != "heuristic" or network.times_smaller is not None:
            return network.times_smaller
        mine, whole = self.answers.parameters(network), self.answers.base_parameters()
        if not mine or not whole:
            return None
        sizes = dict[float, float]()
        for size in self.answers.study.settings.sizes:
            companion = network.supernet and network.chosen_on
            chosen = self.chosen(network.supernet or "", companion, size) if companion else None
            if companion and chosen is None:
                continue
            sizes[size] = (chosen and self.answers.parameters(chosen)) or whole / size
        return min(sizes, key=lambda size: abs(sizes[size] - mine), default=None)

    def is_of(self, network: StudyNetwork, size: float) -> bool:
        """Whether a network belongs into the table of a size: it is compared there, and not larger than that."""
        if self.size_of(network) != size:
            return False
        mine, whole = self.answers.parameters(network), self.answers.base_parameters()
        return network.kind != "heuristic" or (mine is not None and whole is not None and mine * size <= whole)

    def each_on_its_own(
        self,
        kind: NetworkKind,
        supernet: str,
        size: float,
        fine_tuning: FineTuning = "none",
        quantization: Quantization = "none",
    ) -> "Contender | None":
        """On each task the network that goes with the search by this task; None unless all are measured."""
        found, counts = dict[str, ItemAnswers](), list[int]()
        for task in self.answers.tasks:
            networks = self.going_with(kind, supernet, task, size)
            network = next((each for each in networks if each.fine_tuning == fine_tuning), None)
            mine = self.answers.on(network, task, quantization)
            parameters = None if network is None else self.answers.parameters(network)
            if mine is None or parameters is None:
                return None
            found[task] = mine
            counts.append(parameters)
        return Contender(found, fmean(counts))

    def on_all_tasks(self, network: StudyNetwork) -> "Contender | None":
        """One network on every task; None unless it is measured on all."""
        mine, parameters = self.answers.of(network), self.answers.parameters(network)
        return Contender(mine, parameters) if parameters is not None and self.answers.complete(mine) else None


@dataclass(frozen=True)
class Contender:
    """What takes part in a comparison over all tasks: the answers of a network, or of that of each task, and its
    parameters, or their mean."""

    answers: Answers
    parameters: float
