"""Events of a command that runs a search, besides those of the search itself (`shared.events`)."""

from dataclasses import dataclass

from services.application.estimate import Estimate
from services.application.run_directory import RunDirectory
from services.coordinator.plan import SearchPlan
from services.reporting.report_data import ReportContent
from shared.broker.address import BrokerAddress
from shared.events import Event
from shared.messages import Dtype
from shared.settings import SearchSettings
from shared.space import SearchSpace


@dataclass(frozen=True)
class SpaceDescribed(Event):
    """What is going to be searched, its networks' weights held in `dtype`."""

    space: SearchSpace
    dtype: Dtype


@dataclass(frozen=True)
class CostEstimated(Event):
    """What a search of so many `networks` is going to cost; `fine_tunes`: the super-network is still to be made."""

    settings: SearchSettings
    networks: int
    estimate: Estimate
    fine_tunes: bool


@dataclass(frozen=True)
class FineTuningEstimated(Event):
    """How long making the super-network is going to take."""

    seconds: float


@dataclass(frozen=True)
class FarmSearchReady(Event):
    """A farm's search of so many `networks` is going to begin; its metrics and health are served on
    `telemetry_port`."""

    plan: SearchPlan
    networks: int
    broker: BrokerAddress
    telemetry_port: int


@dataclass(frozen=True)
class NoEvaluatorPresent(Event):
    """The search waits for an evaluator of its super-network; `of_another_release`: those that are there, but answer
    other requests."""

    supernet: str
    of_another_release: int


@dataclass(frozen=True)
class ReportWritten(Event):
    """The report and its files are written."""

    content: ReportContent
    run: RunDirectory
