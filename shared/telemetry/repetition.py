"""What is said again and again is said once a minute, with how often."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

SECONDS = 60.0
"""For how long a warning that was given isn't given again."""
REMEMBERED = 1000
"""How many different warnings are remembered; among more than that repetitions may be missed."""


@dataclass
class _Given:
    at: float
    unsaid: int = 0


class RepetitionFilter(logging.Filter):
    """Lets a warning or an error that says the same as an earlier one through once in SECONDS.

    `describe` says what a record says. Those that were kept back are counted, and the next one says how many.
    """

    def __init__(
        self,
        describe: Callable[[logging.LogRecord], str],
        note_repetitions: Callable[[logging.LogRecord, int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`note_repetitions` adds to a record how often it was kept back before."""
        super().__init__()
        self._describe, self._note_repetitions, self._clock = describe, note_repetitions, clock
        self._given: dict[tuple[str, int, str], _Given] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        key = record.name, record.levelno, self._describe(record)
        with self._lock:
            now, given = self._clock(), self._given.pop(key, None)
            if given is not None and now - given.at < SECONDS:
                given.unsaid += 1
                self._given[key] = given
                return False
            while len(self._given) >= REMEMBERED:
                del self._given[next(iter(self._given))]
            self._given[key] = _Given(now)
        if given is not None and given.unsaid:
            self._note_repetitions(record, given.unsaid)
        return True
