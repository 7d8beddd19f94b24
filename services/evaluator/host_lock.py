"""The machine, shared by all evaluators on it: whoever times networks has it to itself."""

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.evaluator.progress_callback import ProgressCallback
from shared.errors import UserError
from shared.files import writing

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.2


class HostLock:
    """Kept by locks in a directory that all evaluators of the machine share; the system frees those of one that dies.

    Who waits to be alone is not overtaken: it holds the entrance, so that nobody begins anything new. Where no locks
    can be kept, nobody waits for anybody.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def shared(self, waiting: ProgressCallback) -> Iterator[None]:
        """Beside others who don't mind. `waiting` is called again and again until it begins."""
        with self._lock("host", fcntl.LOCK_SH, waiting, behind="entrance"):
            yield

    @contextmanager
    def alone(self, waiting: ProgressCallback) -> Iterator[None]:
        """While nobody else computes anything on this machine. `waiting` is called again and again until it begins."""
        with self._lock("entrance", fcntl.LOCK_EX, waiting), self._lock("host", fcntl.LOCK_EX, waiting):
            yield

    @contextmanager
    def _lock(self, name: str, kind: int, waiting: ProgressCallback, behind: str | None = None) -> Iterator[None]:
        path = self._directory / f"{name}.lock"
        try:
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except UserError as error:
            log.warning("times may be disturbed by other evaluators of this machine: %s", error)
            yield
            return
        try:
            if behind is None:
                _wait(descriptor, kind, waiting)
            else:
                with self._lock(behind, fcntl.LOCK_EX, waiting):
                    _wait(descriptor, kind, waiting)
            yield
        finally:
            os.close(descriptor)


def _wait(descriptor: int, kind: int, waiting: ProgressCallback) -> None:
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            time.sleep(WAIT_SECONDS)
        else:
            return
