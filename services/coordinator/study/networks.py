"""The networks that a study compares, and the measurements it has of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from services.coordinator.history import History
from services.coordinator.plan import SearchPlan
from shared.architecture import Architecture, Quantization
from shared.messages import CheckpointRef, Dtype, EvaluationRequest, EvaluationSpec, Measurement, Outcome
from shared.settings import ItemsPart
from shared.settings.study_file import StudySettings

NetworkKind = Literal["base", "dense", "chosen", "random", "heuristic", "baseline", "alone"]
"""What a network of a study is: the untouched model; a whole super-network; what a search chose at a size; a random
sub-network of the size of a chosen one; what a heuristic builds; what a baseline made; a chosen network that was cut
out of the base model instead, fine-tuned on its own or not."""
FineTuning = Literal["none", "full", "lora"]
BESIDE_CHOSEN: tuple[NetworkKind, ...] = ("random", "heuristic")
"""What is only compared with the chosen network of the same search."""
IN_INT8: tuple[NetworkKind, ...] = ("base", "dense", "chosen", "random")
"""What is measured in INT8 too, if the study asks for it: what was chosen, and its controls."""


@dataclass(frozen=True)
class StudyNetwork:
    """A network of a study.

    Attributes:
        kind: what it is.
        checkpoint, architecture: what is measured; not quantised.
        supernet: the super-network that it is of, or whose search chose it; None for base and baselines.
        chosen_on: the task whose search chose it, or `together`; for `random`, `heuristic` and `alone` that of the
            chosen network that they go with. None for base, dense, baselines, and heuristics of others.
        times_smaller: the size at which it is compared; None for base, dense and heuristics.
        name: of the baseline, or of a heuristic from elsewhere.
        fine_tuning: of this network by itself: `none` for base, dense and what is cut out of a super-network.
        tuned_tokens: how many tokens of training data its weights have seen at most, by itself or in a super-network.
    """

    kind: NetworkKind
    checkpoint: CheckpointRef
    architecture: Architecture
    supernet: str | None = None
    chosen_on: str | None = None
    times_smaller: float | None = None
    name: str | None = None
    fine_tuning: FineTuning = "none"
    tuned_tokens: int = 0


@dataclass(frozen=True)
class Candidate:
    """A network that might be compared at a size, by what the search over a super-network by a task, or by all
    together, has learnt."""

    supernet: str
    chosen_on: str
    times_smaller: float
    architecture: Architecture


@dataclass(frozen=True)
class StudySearch:
    """One of the study's searches, finished: over which super-network, by which task (or `together`)."""

    supernet: str
    chosen_on: str
    plan: SearchPlan
    history: History


@dataclass(frozen=True)
class Study:
    """A study as it is measured: its searches, its networks, and the history that holds their measurements on the
    report items, a request for each network and task, and those of the `candidates` on their searches' items. `failed`:
    a line for each network that could not be made."""

    settings: StudySettings
    dtype: Dtype
    searches: tuple[StudySearch, ...]
    networks: tuple[StudyNetwork, ...]
    history: History
    candidates: tuple[Candidate, ...] = ()
    failed: tuple[str, ...] = ()

    def tasks_of(self, network: StudyNetwork, quantization: Quantization = "none") -> tuple[str, ...]:
        """The tasks on whose report items a network is measured: every task; but what is only compared with the choice
        of the search by one task, and this choice in INT8, on that alone."""
        every = tuple(task.name for task in self.settings.tasks)
        if quantization == "int8" and not (self.settings.remeasure_int8 and network.kind in IN_INT8):
            return ()
        companion = network.kind in BESIDE_CHOSEN or quantization == "int8"
        return (network.chosen_on,) if companion and network.chosen_on in every else every

    def request(
        self, network: StudyNetwork, task: str, quantization: Quantization = "none", part: ItemsPart = "report"
    ) -> EvaluationRequest:
        """Measure a network on one task."""
        return task_request(self.settings, self.dtype, network, task, quantization, part)

    def outcome(self, network: StudyNetwork, task: str, quantization: Quantization = "none") -> Outcome | None:
        """What became of measuring a network on a task's report items; None if it was not asked for."""
        return self.history.outcome(self.request(network, task, quantization).identity)

    def measurements(self, network: StudyNetwork, quantization: Quantization = "none") -> dict[str, Measurement]:
        """A network's measurements on the report items, by task; those that failed are left out."""
        outcomes = {task.name: self.outcome(network, task.name, quantization) for task in self.settings.tasks}
        return {task: outcome for task, outcome in outcomes.items() if isinstance(outcome, Measurement)}


def task_request(
    settings: StudySettings,
    dtype: Dtype,
    network: StudyNetwork,
    task: str,
    quantization: Quantization = "none",
    part: ItemsPart = "report",
) -> EvaluationRequest:
    """Measure a network on a part of one task's items; the same request as that of a search by this task alone."""
    (asked,) = (each for each in settings.tasks if each.name == task)
    architecture = network.architecture.quantized(quantization)
    return EvaluationRequest(
        search=settings.name,
        checkpoint=network.checkpoint,
        architecture=architecture,
        spec=EvaluationSpec(tasks=(asked.part(part),), dtype=dtype).computing(architecture),
    )


def of_kind(networks: Sequence[StudyNetwork], *kinds: NetworkKind) -> list[StudyNetwork]:
    """The networks of some kinds, in their order."""
    return [network for network in networks if network.kind in kinds]
