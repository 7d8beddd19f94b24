"""The evaluators that measure for a search, as far as the coordinator knows of them."""

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from shared.announcements import EvaluatorAnnouncement, present
from shared.broker import Broker
from shared.messages import REQUEST_VERSION
from shared.policy import ALONE_SECONDS, IDLE_SECONDS, LOST_SECONDS, PRESENT_SECONDS

REFRESH_SECONDS = 1.0
"""Announcements are read no more often; nor so often that reading takes more than SHARE_OF_TIME."""
SHARE_OF_TIME = 0.05


class Evaluators(Protocol):
    """Who measures for a search."""

    late_seconds: float
    """How long to wait for results that came while no coordinator was there."""

    @property
    def number(self) -> int:
        """How many there are."""
        ...

    def lost(self, sent: Mapping[str, float]) -> list[str]:
        """Those requests in flight, given with the Unix time at which each was sent, that nobody is going to answer
        any more: the queue is empty, and nobody computes them. A result that waits for the coordinator is not known
        here."""
        ...

    def check(self) -> None:
        """Look whether results can come, while none does. Raises if none can come any more."""
        ...


class EmbeddedEvaluator:
    """The one in this process, of which nothing is lost. `check` raises what it died of."""

    late_seconds = 0.0
    number = 1

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def lost(self, sent: Mapping[str, float]) -> list[str]:
        return []

    def check(self) -> None:
        self._check()


class AnnouncedEvaluators:
    """Those of a super-network that announce themselves. Who is lost may be replaced any time, so there is always hope:
    where none is there for a while, `check` calls `alone`, once, with the number of those that are of another release:
    they answer requests of another version.

    `clock` gives Unix time.
    """

    late_seconds = 1.0

    def __init__(
        self, broker: Broker, supernet: str, alone: Callable[[int], None], clock: Callable[[], float] = time.time
    ) -> None:
        self._broker = broker
        self._supernet = supernet
        self._alone = alone
        self._clock = clock
        self._accompanied = clock()
        self._told = False
        self._present: list[EvaluatorAnnouncement] = []
        self._others = 0
        self._next_look = 0.0

    @property
    def number(self) -> int:
        self._look()
        return len(self._present)

    def lost(self, sent: Mapping[str, float]) -> list[str]:
        # The queue is one for all: what was sent before an evaluator had waited in vain for a while has been taken by
        # another. Who took it announced so at once, and again every few seconds as long as it lives. The margins leave
        # time for the announcements, and for clocks that differ a little.
        old = [identity for identity, at in sent.items() if self._clock() - at > LOST_SECONDS]
        if not old:
            return []
        self._look()
        if not any(each.state == "idle" and each.sent_at - each.since >= IDLE_SECONDS for each in self._present):
            return []
        in_work = {each.candidate for each in self._present}
        return [identity for identity in old if identity not in in_work]

    def check(self) -> None:
        if self.number:
            self._accompanied, self._told = self._clock(), False
        elif not self._told and self._clock() - self._accompanied > ALONE_SECONDS:
            self._told = True
            self._alone(self._others)

    def _look(self) -> None:
        now = self._clock()
        if now < self._next_look:
            return
        began = time.perf_counter()
        there = [
            each
            for each in present(self._broker.announced(PRESENT_SECONDS), now)
            if isinstance(each, EvaluatorAnnouncement) and each.supernet == self._supernet
        ]
        self._present = [each for each in there if each.requests == REQUEST_VERSION]
        self._others = len(there) - len(self._present)
        self._next_look = now + max(REFRESH_SECONDS, (time.perf_counter() - began) / SHARE_OF_TIME)
