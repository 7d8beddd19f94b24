"""How the study's networks are drawn: a colour for each super-network, a shape for each kind of network."""

from dataclasses import dataclass

from services.coordinator.study.networks import NetworkKind
from services.reporting import wording
from services.reporting.study.study_data import Accuracy, StudyContent, StudyRow
from shared.settings.study_file import TOGETHER

SHAPES: dict[NetworkKind, str] = {
    "base": "base",
    "dense": "dense",
    "chosen": "front",
    "random": "random",
    "heuristic": "star",
    "baseline": "down",
    "alone": "cross",
}
SUPERNET_TONES = ("tone-1", "tone-2", "tone-3", "tone-4")
BASELINE_TONE, BASE_TONE = "tone-5", "tone-0"
KINDS: dict[NetworkKind, str] = {
    "base": "base, the untouched model",
    "dense": "dense, the whole super-network",
    "chosen": "chosen by a search",
    "random": "random, as large as one chosen",
    "heuristic": "by a heuristic",
    "alone": "chosen, but cut from the base model",
    "baseline": "baseline",
}


@dataclass(frozen=True)
class MarkStyle:
    """A colour of the palette, a shape, and whether it is hollow."""

    tone: str
    shape: str
    hollow: bool = False


class Marks:
    """The marks of one study's networks."""

    def __init__(self, content: StudyContent) -> None:
        self._tones = {
            supernet.name: SUPERNET_TONES[number % len(SUPERNET_TONES)]
            for number, supernet in enumerate(content.supernets)
        }

    def tone(self, supernet: str | None) -> str:
        """The colour of a super-network, or of what belongs to none."""
        return BASE_TONE if supernet is None else self._tones.get(supernet, BASE_TONE)

    def of(self, row: StudyRow) -> MarkStyle:
        """A network's mark; hollow is what was not fine-tuned where others of its kind were."""
        tone = BASELINE_TONE if row.kind == "baseline" else self.tone(row.supernet)
        hollow = row.kind in ("baseline", "alone") and row.fine_tuning == "none"
        return MarkStyle(tone, SHAPES[row.kind], hollow)


def searched_on(chosen_on: str) -> str:
    """What a search chose on, in words."""
    return "all tasks together" if chosen_on == TOGETHER else chosen_on


def accuracy_in_words(accuracy: Accuracy) -> str:
    """An accuracy with its interval: `45.9 % (95 %: 43.1–48.8)`."""
    return f"{wording.percent(accuracy.accuracy)} (95{wording.SPACE}%: {wording.interval(accuracy.interval)})"


def size_in_words(parameters: int | None, times_smaller: float | None) -> str:
    """A size: `103.4 M parameters, 1.30 times smaller`."""
    if parameters is None:
        return "size unknown"
    times = "" if times_smaller is None else f", {times_smaller:.2f} times smaller"
    return f"{wording.parameters(parameters)} parameters{times}"
