"""Whether a farm that was brought up measures: its evaluators are there, and its searches get on."""

import logging
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager

from deploy.farm.backend import Backend
from deploy.farm.broker_files import operator_address
from deploy.farm.console import print_line
from deploy.farm.programs import COORDINATOR
from deploy.farm.state import FarmDirectory, FarmSpec
from deploy.farm.status import ServiceState
from shared.announcements import EvaluatorAnnouncement, SearchAnnouncement, present
from shared.broker.rabbitmq import RabbitBroker
from shared.errors import UserError
from shared.failure_policy import ANNOUNCE_SECONDS, MOST_SERVICE_RESTARTS, SILENT_COORDINATOR_SECONDS

LOOK_SECONDS = 0.3
REPORT_SECONDS = 15.0
"""How often the user is told what the command waits for."""
RECENT_SECONDS = 2 * ANNOUNCE_SECONDS
"""Every service that is present announced itself within this time."""

Announced = list[EvaluatorAnnouncement | SearchAnnouncement]


def wait_until_measuring(
    directory: FarmDirectory, farm: FarmSpec, backend: Backend, begun: Collection[str], began: float
) -> None:
    """Return when all evaluators are there and each search that hasn't ended has measured something.

    What was measured earlier counts for a search that was under way already, if its evaluators are at work; those in
    `begun` were not. Announcements from before `began` (Unix time) are of processes that may have ended. Raises
    UserError with what is wrong and what to do where something ended.
    """
    progress = _FarmProgress(farm, frozenset(begun))
    restarts: dict[str, int] = {}
    report_at, silent_at = time.monotonic() + REPORT_SECONDS, time.monotonic() + SILENT_COORDINATOR_SECONDS
    with closing(RabbitBroker(operator_address(directory, farm), "nasfarm farm")) as broker, _silenced_broker_log():
        while True:
            states = backend.states()
            for state in states:
                _raise_if_failed(state, backend, restarts)
            if not backend.running():
                raise UserError("the farm was taken down meanwhile; the same command brings it up again")
            progress.evaluators = (directory.read() or farm).evaluators  # it may be scaled meanwhile
            progress.update(present(broker.announced(RECENT_SECONDS)), began)
            progress.set_ended({name for name, code in backend.ended().items() if code == 0})
            if progress.done:
                return print_line(f"Measuring      {progress.summary()}")
            if progress.silent and time.monotonic() > silent_at:
                coordinator = f"{COORDINATOR}{progress.silent[0]}"
                raise UserError(
                    f"{coordinator} doesn't announce itself (its last line: {backend.last_line(coordinator)}); "
                    "`make down`, then the same command again"
                )
            if time.monotonic() > report_at:
                print_line(f"Waiting        {progress.summary()}; Ctrl-C leaves the farm running")
                report_at = time.monotonic() + REPORT_SECONDS
            time.sleep(LOOK_SECONDS)


@contextmanager
def _silenced_broker_log() -> Iterator[None]:
    """Keep the connection from logging what it recovers from by itself: what stays wrong is reported here."""
    log = logging.getLogger("shared.broker")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


def _raise_if_failed(state: ServiceState, backend: Backend, restarts: dict[str, int]) -> None:
    """Raise UserError if a service has failed, for good or again and again."""
    failures = state.restarts - restarts.setdefault(state.name, state.restarts)
    if state.failed or failures >= MOST_SERVICE_RESTARTS:
        how = "ended" if state.failed else f"ended {failures} times"
        raise UserError(
            f"{state.name} {how}: {backend.last_line(state.name)}; fix that and run the same command again "
            "(the farm is up: make status, make logs, make down)"
        )


class _FarmProgress:
    """What a farm's evaluators and searches have announced; `evaluators`: how many each super-network is to have."""

    def __init__(self, farm: FarmSpec, begun: frozenset[str]) -> None:
        self.evaluators = farm.evaluators
        self._farm = farm
        self._begun = begun
        self._first: dict[str, tuple[str, int]] = {}
        self._last: dict[str, SearchAnnouncement] = {}
        self._measuring: set[str] = set()
        self._ended: set[str] = set()
        self._present: dict[str, set[str]] = {}

    def update(self, announced: Announced, began: float) -> None:
        """Note the latest announcements; those from before `began` are of processes that may have ended."""
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

    def set_ended(self, ended: Collection[str]) -> None:
        """Note the searches that have finished."""
        self._ended = set(ended)

    @property
    def silent(self) -> list[str]:
        """The searches that have neither ended nor announced themselves."""
        return sorted(self._active - self._last.keys())

    @property
    def done(self) -> bool:
        """Whether nothing is missing any more."""
        if self.evaluators == 0:  # others may come from elsewhere
            return not self.silent
        there = all(len(self._present.get(each, ())) >= self.evaluators for each in self._served)
        return there and self._active <= self._measuring

    def summary(self) -> str:
        """How far it is, in words."""
        wanted = self.evaluators * len(self._served)
        there = sum(len(self._present.get(each, ())) for each in self._served)
        return ", ".join([f"{there} of {wanted} evaluators are ready", *map(self._of_search, sorted(self._active))])

    def _of_search(self, name: str) -> str:
        if (heard := self._last.get(name)) is None:
            return f"{name} is starting"
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
