"""Announcements: what the services of a farm publish about themselves every few seconds. Losing some does no harm."""

import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from shared.failure_policy import PRESENT_SECONDS
from shared.messages import Message


class EvaluatorAnnouncement(Message):
    """An evaluator's state. Fields that only a newer release knows are ignored.

    Attributes:
        requests: the version of the requests that it answers (REQUEST_VERSION); releases before did not say.
        name: its own, as long as its process lives: host and process number.
        supernet: digest of the super-network that it serves.
        state: what it is doing, `since` when (Unix time). `idle`: waits at an empty queue. `pausing`: accepts no
            request for a while, after a failure that others may not meet. `stopped`: its last announcement.
        search: whose requests it computes.
        candidates: the identities of these requests, one for each network.
        measured: requests that it answered with a measurement.
        failed: requests that it answered with a failure.
    """

    model_config = ConfigDict(extra="ignore")

    kind: Literal["evaluator"] = "evaluator"
    version: Literal[1] = 1
    requests: int = 1
    sent_at: float
    name: str
    supernet: str
    device: str
    state: Literal["idle", "computing", "pausing", "draining", "stopped"]
    since: float
    search: str | None = None
    candidates: tuple[str, ...] = ()
    measured: int = 0
    failed: int = 0


SearchState = Literal["searching", "reporting", "finished", "stopped"]


class SearchAnnouncement(Message):
    """How far a search has got. Fields that only a newer release knows are ignored.

    Attributes:
        requests: the version of the requests that it sends.
        name: the search's.
        supernet: digest of its super-network.
        state: `searching`, `reporting` (measures the front on other items), or how it ended.
        planned: networks that it is going to measure in this state.
        measured: those of them that are measured.
        failed: those that failed, by kind of failure.
        in_flight: requests sent and not answered.
        eta_seconds: time until all are measured, None while it isn't known.
        hypervolume: of the networks measured so far, None before the first generation is complete.
    """

    model_config = ConfigDict(extra="ignore")

    kind: Literal["search"] = "search"
    version: Literal[1] = 1
    requests: int = 1
    sent_at: float
    name: str
    supernet: str
    state: SearchState
    planned: int
    measured: int
    failed: dict[str, int] = Field(default_factory=dict)
    in_flight: int = 0
    eta_seconds: float | None = None
    hypervolume: float | None = None


Announcement = Annotated[EvaluatorAnnouncement | SearchAnnouncement, Field(discriminator="kind")]
_ANY: TypeAdapter[EvaluatorAnnouncement | SearchAnnouncement] = TypeAdapter(Announcement)


def latest(bodies: Iterable[bytes]) -> list[EvaluatorAnnouncement | SearchAnnouncement]:
    """The last announcement of each service, given oldest first; what can't be read is ignored."""
    found = {(each.kind, each.name): each for each in _readable(bodies)}
    return list(found.values())


def present(bodies: Iterable[bytes], now: float | None = None) -> list[EvaluatorAnnouncement | SearchAnnouncement]:
    """Those of `latest` that are there: announced lately, and not stopped. `now` is Unix time."""
    at = time.time() if now is None else now
    return [
        each
        for each in latest(bodies)
        if at - each.sent_at <= PRESENT_SECONDS and each.state not in ("finished", "stopped")
    ]


def _readable(bodies: Iterable[bytes]) -> Iterator[EvaluatorAnnouncement | SearchAnnouncement]:
    for body in bodies:
        try:
            yield _ANY.validate_json(body)
        except ValidationError:  # a service of another release
            continue
