"""Whether a farm that was brought up measures: its evaluators are there, and its searches get on."""

import logging
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager

from deploy.farm.backend import Backend, ServiceState
from deploy.farm.broker_files import operator_address
from deploy.farm.console import say
from deploy.farm.programs import COORDINATOR
from deploy.farm.state import FarmDirectory, FarmSpec
from shared.announcements import EvaluatorAnnouncement, SearchAnnouncement, present
from shared.broker.rabbitmq import RabbitBroker
from shared.errors import UserError
from shared.policy import ANNOUNCE_SECONDS, MOST_SERVICE_RESTARTS

LOOK_SECONDS = 0.3
SAY_SECONDS = 15.0
"""How often it is said what is waited for."""
HEARD_SECONDS = 2 * ANNOUNCE_SECONDS
"""Whoever is there was heard within this time."""

SILENT_SECONDS = 300.0
"""A coordinator that runs says within this time how far it is, unless RabbitMQ doesn't pass it on."""

Announced = list[EvaluatorAnnouncement | SearchAnnouncement]


def watch(directory: FarmDirectory, farm: FarmSpec, backend: Backend, begun: Collection[str], began: float) -> None:
    """Return when all evaluators are there and each search that hasn't ended has measured something.

    What was measured earlier counts for a search that was under way already, if its evaluators are at work; those in
    `begun` were not. What was said before `began` (Unix time) is of processes that may be gone. Raises UserError with
    what is wrong and what to do where something ended.
    """
    progress = _Progress(farm, frozenset(begun))
    restarts: dict[str, int] = {}
    say_at, silent_at = time.monotonic() + SAY_SECONDS, time.monotonic() + SILENT_SECONDS
    with closing(RabbitBroker(operator_address(directory, farm), "nasfarm farm")) as broker, _quiet():
        while True:
            states = backend.states()
            for state in states:
                _check(state, backend, restarts)
            if not backend.running():
                raise UserError("the farm was taken down meanwhile; the same command brings it up again")
            progress.evaluators = (directory.read() or farm).evaluators  # it may be scaled meanwhile
            progress.hear(present(broker.announced(HEARD_SECONDS)), began)
            progress.end({name for name, code in backend.ended().items() if code == 0})
            if progress.done:
                return say(f"Measuring      {progress.told()}")
            if progress.silent and time.monotonic() > silent_at:
                coordinator = f"{COORDINATOR}{progress.silent[0]}"
                raise UserError(
                    f"nothing is heard of {coordinator} (it wrote last: {backend.last_line(coordinator)}); "
                    "`make down`, then the same command again"
                )
            if time.monotonic() > say_at:
                say(f"Waiting        {progress.told()}; Ctrl-C leaves the farm running")
                say_at = time.monotonic() + SAY_SECONDS
            time.sleep(LOOK_SECONDS)


@contextmanager
def _quiet() -> Iterator[None]:
    """Have the connection say nothing of what it mends by itself: what remains wrong shows here."""
    log = logging.getLogger("shared.broker")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


def _check(state: ServiceState, backend: Backend, restarts: dict[str, int]) -> None:
    """Raise UserError if a service has failed, for good or again and again."""
    failures = state.restarts - restarts.setdefault(state.name, state.restarts)
    if state.failed or failures >= MOST_SERVICE_RESTARTS:
        how = "ended" if state.failed else f"ended {failures} times"
        raise UserError(
            f"{state.name} {how}: {backend.last_line(state.name)}; mend that and give the same command again "
            "(the farm is up: make status, make logs, make down)"
        )


class _Progress:
    """What was heard of a farm's evaluators and searches; `evaluators`: how many each super-network is to have."""

    def __init__(self, farm: FarmSpec, begun: frozenset[str]) -> None:
        self.evaluators = farm.evaluators
        self._farm = farm
        self._begun = begun
        self._first: dict[str, tuple[str, int]] = {}
        self._last: dict[str, SearchAnnouncement] = {}
        self._measuring: set[str] = set()
        self._ended: set[str] = set()
        self._present: dict[str, set[str]] = {}

    def hear(self, announced: Announced, began: float) -> None:
        """Take note of who was heard lately; what was said before `began` is of processes that may be gone."""
        heard = [each for each in announced if each.sent_at >= began]
        evaluators = [each for each in heard if isinstance(each, EvaluatorAnnouncement)]
        self._present = {
            supernet: {each.name for each in evaluators if each.supernet == supernet}
            for supernet in self._farm.supernets
        }
        for each in heard:
            if isinstance(each, SearchAnnouncement):
                done = (each.state, each.measured)
                self._last[each.name] = each
                if self._first.setdefault(each.name, done) != done:
                    self._measuring.add(each.name)
            elif each.measured and each.search is not None and each.search not in self._begun:
                self._measuring.add(each.search)

    def end(self, ended: Collection[str]) -> None:
        """Take note of the searches that have come to their end."""
        self._ended = set(ended)

    @property
    def silent(self) -> list[str]:
        """The searches that have not ended and were never heard."""
        return sorted(self._active - self._last.keys())

    @property
    def done(self) -> bool:
        """Whether nothing is missing any more."""
        if self.evaluators == 0:  # others may come from elsewhere
            return not self.silent
        there = all(len(self._present.get(each, ())) >= self.evaluators for each in self._served)
        return there and self._active <= self._measuring

    def told(self) -> str:
        """How far it is, in words."""
        wanted = self.evaluators * len(self._served)
        there = sum(len(self._present.get(each, ())) for each in self._served)
        return ", ".join([f"{there} of {wanted} evaluators are there", *map(self._of_search, sorted(self._active))])

    def _of_search(self, name: str) -> str:
        if (heard := self._last.get(name)) is None:
            return f"{name} begins"
        failed = sum(heard.failed.values())
        return f"{name}: {heard.measured} of {heard.planned} networks measured" + (
            f", {failed} failed" if failed else ""
        )

    @property
    def _active(self) -> set[str]:
        return {search.name for search in self._farm.searches} - self._ended

    @property
    def _served(self) -> set[str]:
        return {search.supernet for search in self._farm.searches if search.name in self._active}
