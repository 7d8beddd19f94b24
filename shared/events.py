"""What happens in a search, published once: history, metrics, terminal and log are subscribers.

A subscriber is a function of an event. It is given to `Events` where a command is put together, and whoever publishes
knows of none. What only one room can say is an event of its own (`services.application.search_events`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from shared.generation import GenerationRow
from shared.messages import CostTable, EvaluationRequest, Failure, Measurement

Stage = Literal["costs", "search", "report"]
Unit = Literal["count", "bytes"]


class Event:
    """What all events have in common: nothing but being one."""


@dataclass(frozen=True)
class StepBegan(Event):
    """A step of the preparation that may take long, of `total` units or of unknown length; `note` says what it does
    first."""

    name: str
    total: int | None = None
    note: str = ""
    unit: Unit = "count"


@dataclass(frozen=True)
class StepAdvanced(Event):
    """So much of the step is done, at most all of it; `note` says what happened last, None leaves what was said."""

    done: int
    note: str | None = None


@dataclass(frozen=True)
class StepEnded(Event):
    """The step is over, whether or not it was completed."""


@dataclass(frozen=True)
class Noted(Event):
    """A fact for the user, under the name of what it is about; without a name it continues the one before."""

    subject: str
    text: str


@dataclass(frozen=True)
class StageBegan(Event):
    """A stage of the search began, in which so many networks are going to be measured."""

    stage: Stage
    planned: int


@dataclass(frozen=True)
class CostsMeasured(Event):
    """The tables that times are computed from are there; none if the search times nothing."""

    tables: tuple[CostTable, ...]


@dataclass(frozen=True)
class CandidatesChosen(Event):
    """The strategy asked for a generation: its requests, each with the accuracy that was predicted, if one was. `known`
    is the last arrival in the history that it knew of, where that isn't decided by the generations before."""

    generation: int
    candidates: tuple[tuple[EvaluationRequest, float | None], ...]
    known: int | None = None


@dataclass(frozen=True)
class InFlightChanged(Event):
    """So many requests are sent and not answered."""

    requests: int


@dataclass(frozen=True)
class RequestsResent(Event):
    """So many requests were lost and are sent again."""

    requests: int


@dataclass(frozen=True)
class ResultsReceived(Event):
    """Valid answers to requests in flight, each once. The publisher acknowledges them when all subscribers have
    returned, so they must be stored by then. `began`: when handling them began (`time.perf_counter`)."""

    results: tuple[tuple[EvaluationRequest, Measurement | Failure], ...]
    began: float


@dataclass(frozen=True)
class ResultIgnored(Event):
    """A result was no news (`duplicate`), or no answer to its request (`invalid`)."""

    reason: Literal["duplicate", "invalid"]


@dataclass(frozen=True)
class DeadLetterReceived(Event):
    """A request came back as a dead letter."""

    reason: Literal["delivery_limit", "unreadable"]


@dataclass(frozen=True)
class Measured(Event):
    """A network that the stage waits for is measured: now, or before the search was interrupted."""

    request: EvaluationRequest
    measurement: Measurement


@dataclass(frozen=True)
class Failed(Event):
    """A network that the stage waits for could not be measured."""

    request: EvaluationRequest
    failure: Failure


@dataclass(frozen=True)
class GenerationDone(Event):
    """A generation is complete."""

    row: GenerationRow


@dataclass(frozen=True)
class SearchFinished(Event):
    """All is measured, and the report is written."""


@dataclass(frozen=True)
class SearchStopped(Event):
    """The search ended before that; the same command resumes it."""


Subscriber = Callable[[Event], None]


class Events:
    """Tells every subscriber of every event, in the order in which they subscribed, on the publisher's thread.

    An exception of a subscriber reaches the publisher, and those after it are not told: what could not be stored has
    not happened.
    """

    def __init__(self, *subscribers: Subscriber) -> None:
        self._subscribers = list(subscribers)

    def subscribe(self, subscriber: Subscriber, first: bool = False) -> None:
        """Tell one more; `first`: before all others, as who stores events must be."""
        self._subscribers.insert(0 if first else len(self._subscribers), subscriber)

    def publish(self, event: Event) -> None:
        """Tell all subscribers."""
        for subscriber in self._subscribers:
            subscriber(event)

    def note(self, subject: str, text: str) -> None:
        """Publish a fact for the user."""
        self.publish(Noted(subject, text))

    @contextmanager
    def step(
        self, name: str, total: int | None = None, note: str = "", unit: Unit = "count"
    ) -> Iterator["StepReporter"]:
        """A step that is under way within the context."""
        self.publish(StepBegan(name, total, note, unit))
        try:
            yield StepReporter(self)
        finally:
            self.publish(StepEnded())


class StepReporter:
    """By which a step says how far it has got."""

    def __init__(self, events: Events) -> None:
        self._events, self._done = events, 0

    def reach(self, done: int, note: str | None = None) -> None:
        """So much of it is done."""
        self._done = done
        self._events.publish(StepAdvanced(done, note))

    def advance(self, note: str | None = None) -> None:
        """One more is done."""
        self.reach(self._done + 1, note)
