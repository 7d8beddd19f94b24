"""Events of a command that runs a study, besides those of its searches."""

from dataclasses import dataclass
from pathlib import Path

from services.reporting.study.study_data import StudyContent
from shared.events import Event


@dataclass(frozen=True)
class CostLine:
    """A stage: `number` of what is done, how many `tokens` are read by networks in it, and how long it takes about."""

    stage: str
    number: str
    tokens: int
    seconds: float


@dataclass(frozen=True)
class StudyCost:
    """All stages of a study, and the `disk` space in bytes that its checkpoints will take at most."""

    lines: tuple[CostLine, ...]
    disk: int

    @property
    def seconds(self) -> float:
        """Altogether."""
        return sum(line.seconds for line in self.lines)

    @property
    def tokens(self) -> int:
        """Altogether."""
        return sum(line.tokens for line in self.lines)


@dataclass(frozen=True)
class StudyCostEstimated(Event):
    """What is left of a study is going to cost."""

    cost: StudyCost


@dataclass(frozen=True)
class StudySearchBegan(Event):
    """One of the study's searches begins: the `number`th of `searches`, over which super-network, chosen on what;
    `finished`: an earlier run of the command has done it."""

    number: int
    searches: int
    supernet: str
    chosen_on: str
    finished: bool


@dataclass(frozen=True)
class CandidatesMeasured(Event):
    """The candidates of the study's sizes are measured on the search items, but for those that `failed`."""

    measured: int
    failed: int


@dataclass(frozen=True)
class StudyMeasured(Event):
    """All networks of the study are measured, but for so many measurements that `failed`; `taken_over`: so many were
    found in the searches' histories."""

    measured: int
    taken_over: int
    failed: int


@dataclass(frozen=True)
class StudyReportWritten(Event):
    """The study's report and tables are written into a directory."""

    directory: Path
    content: StudyContent
