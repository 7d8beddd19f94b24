"""A study's networks as the report knows them: their names, and which report items they answered right."""

from collections.abc import Sequence
from urllib.parse import quote

from services.coordinator.study.networks import Study, StudyNetwork, of_kind
from services.reporting.item_answers import ItemAnswers
from services.reporting.study.difference import Answers, Difference, accuracy_on, mean_accuracy
from services.reporting.study.study_data import Accuracy, StudyRow
from shared.architecture import Quantization
from shared.messages import Failure, Measurement
from shared.settings.study_file import TOGETHER

TUNED = {"none": "", "full": "fine-tuned", "lora": "LoRA"}


class StudyAnswers:
    """The measurements of a study's networks on the report items."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.tasks = tuple(task.name for task in study.settings.tasks)
        self._metrics = {task.name: task.metric for task in study.settings.tasks}
        self._known: dict[tuple[StudyNetwork, Quantization], tuple[dict[str, Measurement], Answers]] = {}

    def measurements(self, network: StudyNetwork, quantization: Quantization = "none") -> dict[str, Measurement]:
        """By task, in the order of the tasks."""
        return self._both(network, quantization)[0]

    def of(self, network: StudyNetwork | None, quantization: Quantization = "none") -> Answers:
        """By task, in the order of the tasks; those that it was not measured on are missing."""
        return {} if network is None else self._both(network, quantization)[1]

    def on(self, network: StudyNetwork | None, task: str, quantization: Quantization = "none") -> ItemAnswers | None:
        """On one task; None if it was not measured."""
        return self.of(network, quantization).get(task)

    def on_each(self, network: StudyNetwork | None, tasks: Sequence[str]) -> Answers | None:
        """On each of some tasks; None if one is missing."""
        answers = self.of(network)
        return {task: answers[task] for task in tasks} if all(task in answers for task in tasks) else None

    def difference(self, one: StudyNetwork, other: StudyNetwork, task: str) -> Difference | None:
        """Between two networks on a task, exactly none between a network and itself; None if one was not measured."""
        mine, theirs = self.on(one, task), self.on(other, task)
        if mine is None or theirs is None:
            return None
        if (one.checkpoint.digest, one.architecture) == (other.checkpoint.digest, other.architecture):
            return Difference.of_the_same(len(mine.values))
        return Difference.of_task(mine, theirs)

    def complete(self, answers: Answers) -> bool:
        """Whether there are answers on every task."""
        return list(answers) == list(self.tasks)

    def mean(self, answers: Answers) -> Accuracy | None:
        """The mean over tasks; None unless it is over all of them, or if there is only one."""
        return mean_accuracy(answers) if self.complete(answers) and len(answers) > 1 else None

    def chosen_from(self, chosen_on: str) -> tuple[str, ...]:
        """The tasks that a search looks at."""
        return self.tasks if chosen_on == TOGETHER else (chosen_on,)

    def parameters(self, network: StudyNetwork) -> int | None:
        """The true number of parameters; None if it was never measured."""
        return next((each.parameters for each in self.measurements(network).values()), None)

    def base_parameters(self) -> int | None:
        """Of the untouched model."""
        return next((self.parameters(base) for base in of_kind(self.study.networks, "base")), None)

    def failures(self, network: StudyNetwork, quantization: Quantization = "none") -> list[str]:
        """One line for each task on which it failed."""
        outcomes = {task: self.study.outcome(network, task, quantization) for task in self.tasks}
        name = label(network) + (" in INT8" if quantization == "int8" else "")
        return [
            f"{name} on {task}: {outcome.kind}, {outcome.reason}"
            for task, outcome in outcomes.items()
            if isinstance(outcome, Failure)
        ]

    def row(self, network: StudyNetwork) -> StudyRow:
        """A network with all its measurements."""
        whole, mine = self.base_parameters(), self.parameters(network)
        answers, int8 = self.of(network), self.of(network, "int8")
        known, again = self.measurements(network), self.measurements(network, "int8")
        return StudyRow(
            key=key(network),
            label=label(network),
            kind=network.kind,
            supernet=network.supernet,
            chosen_on=network.chosen_on,
            name=network.name,
            fine_tuning=network.fine_tuning,
            tuned_tokens=network.tuned_tokens,
            times_smaller=network.times_smaller,
            architecture=network.architecture,
            parameters=mine,
            bytes=next((each.bytes for each in known.values()), None),
            true_times_smaller=whole / mine if whole and mine else None,
            by_task={task: accuracy_on(each) for task, each in answers.items()},
            mean=self.mean(answers),
            int8_bytes=next((each.bytes for each in again.values()), None),
            int8={task: accuracy_on(each) for task, each in int8.items()},
            int8_mean=self.mean(int8),
        )

    def _both(self, network: StudyNetwork, quantization: Quantization) -> tuple[dict[str, Measurement], Answers]:
        which = (network, quantization)
        if which not in self._known:
            measured = self.study.measurements(network, quantization)
            answers = {task: ItemAnswers.of(each, (self._metrics[task],)) for task, each in measured.items()}
            self._known[which] = measured, answers
        return self._known[which]


def label(network: StudyNetwork) -> str:
    """What the report calls a network: all that tells it from the study's others."""
    where = f"{network.supernet}: " if network.supernet else ""
    searched = network.chosen_on
    on = "" if searched is None else f" on {'all tasks' if searched == TOGETHER else searched}"
    size = "" if network.times_smaller is None else f", {network.times_smaller:g}x"
    tuned = f", {TUNED[network.fine_tuning]}" if network.fine_tuning != "none" else ""
    match network.kind:
        case "base":
            return "base"
        case "dense":
            return f"{where}dense"
        case "chosen":
            return f"{where}chosen{on}{size}"
        case "random":
            return f"{where}random, as large as chosen{on}{size}"
        case "heuristic":
            return f"{where}heuristic {network.name}" if network.name else f"{where}heuristic{on}"
        case "alone":
            return f"{where}chosen{on}{size}, cut from the base model{tuned or ', not fine-tuned'}"
        case "baseline":
            return f"{network.name}{size}{tuned}"


def key(network: StudyNetwork) -> str:
    """What tells it from the study's others, without spaces: all parts, empty ones too, between colons, which no part
    has: other signs than letters, digits, `.`, `_`, `-`, `~` are written as in addresses (`%3A`)."""
    size = "" if network.times_smaller is None else repr(network.times_smaller)
    parts = (network.kind, network.supernet, network.chosen_on, network.name, network.fine_tuning, size)
    return ":".join(quote(part or "", safe="") for part in parts)
