"""The evaluators of a search, as far as the coordinator knows them."""

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from shared.announcements import EvaluatorAnnouncement, present
from shared.broker import Broker
from shared.failure_policy import ALONE_SECONDS, IDLE_SECONDS, LOST_SECONDS, PRESENT_SECONDS
from shared.messages import REQUEST_VERSION

REFRESH_SECONDS = 1.0
"""Announcements are read no more often; nor so often that reading takes more than SHARE_OF_TIME."""
SHARE_OF_TIME = 0.05


class Evaluators(Protocol):
    """The evaluators of a search."""

    backlog_seconds: float
    """How long to wait at the start for results that came while no coordinator was there."""

    @property
    def number(self) -> int:
        """How many there are."""
        ...

    def lost(self, sent: Mapping[str, float]) -> list[str]:
        """Those requests in flight, given with the Unix time at which each was sent, that no evaluator is going to
        answer: the queue is empty, and none computes them. Results that wait for the coordinator are not considered."""
        ...

    def check(self) -> None:
        """To be called while no result comes. Raises if none can come any more."""
        ...


class EmbeddedEvaluator:
    """The one in this process, which loses no request. `check` raises the exception that ended it."""

    backlog_seconds = 0.0
    number = 1

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def lost(self, sent: Mapping[str, float]) -> list[str]:
        return []

    def check(self) -> None:
        self._check()


class EvaluatorsOfSeveral:
    """Those of several super-networks, each given by its digest: of `first` for all requests but those in `owners`, as
    for the dispatcher."""

    backlog_seconds = 1.0

    def __init__(self, of_each: Mapping[str, Evaluators], first: str, owners: Mapping[str, str]) -> None:
        self._of_each, self._first, self._owners = dict(of_each), first, owners

    @property
    def number(self) -> int:
        return sum(each.number for each in self._of_each.values())

    def lost(self, sent: Mapping[str, float]) -> list[str]:
        of_each: dict[str, dict[str, float]] = {}
        for identity, at in sent.items():
            of_each.setdefault(self._owners.get(identity, self._first), {})[identity] = at
        return [each for supernet, its in of_each.items() for each in self._of_each[supernet].lost(its)]

    def check(self) -> None:
        for each in self._of_each.values():
            each.check()


class AnnouncedEvaluators:
    """Those of a super-network that announce themselves. One that is lost may be replaced at any time, so `check` never
    raises: where none is there for a while it calls `alone`, once, with the number of those of another release, which
    answer requests of another version.

    `clock` gives Unix time.
    """

    backlog_seconds = 1.0

    def __init__(
        self, broker: Broker, supernet: str, alone: Callable[[int], None], clock: Callable[[], float] = time.time
    ) -> None:
        self._broker = broker
        self._supernet = supernet
        self._alone = alone
        self._clock = clock
        self._last_present = clock()
        self._alone_reported = False
        self._present: list[EvaluatorAnnouncement] = []
        self._of_other_releases = 0
        self._next_refresh = 0.0

    @property
    def number(self) -> int:
        self._refresh()
        return len(self._present)

    def lost(self, sent: Mapping[str, float]) -> list[str]:
        # All evaluators share one queue: if one of them has been idle for a while, every request that was sent before
        # was delivered to another. That one announced it at once, and does so every few seconds as long as it lives.
        # The margins leave time for the announcements, and for clocks that differ a little.
        old = [identity for identity, at in sent.items() if self._clock() - at > LOST_SECONDS]
        if not old:
            return []
        self._refresh()
        if not any(each.state == "idle" and each.sent_at - each.since >= IDLE_SECONDS for each in self._present):
            return []
        in_work = {identity for each in self._present for identity in each.candidates}
        return [identity for identity in old if identity not in in_work]

    def check(self) -> None:
        if self.number:
            self._last_present, self._alone_reported = self._clock(), False
        elif not self._alone_reported and self._clock() - self._last_present > ALONE_SECONDS:
            self._alone_reported = True
            self._alone(self._of_other_releases)

    def _refresh(self) -> None:
        now = self._clock()
        if now < self._next_refresh:
            return
        began = time.perf_counter()
        there = [
            each
            for each in present(self._broker.announced(PRESENT_SECONDS), now)
            if isinstance(each, EvaluatorAnnouncement) and each.supernet == self._supernet
        ]
        self._present = [each for each in there if each.requests == REQUEST_VERSION]
        self._of_other_releases = len(there) - len(self._present)
        self._next_refresh = now + max(REFRESH_SECONDS, (time.perf_counter() - began) / SHARE_OF_TIME)
