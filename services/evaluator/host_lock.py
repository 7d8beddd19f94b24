"""The machine, shared by all evaluators on it: an evaluator that times networks has it to itself."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from services.evaluator.progress_callback import ProgressCallback
from shared.errors import UserError
from shared.files import writing
from shared.locks import try_lock

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.2


class HostLock:
    """A read-write lock, by lock files in a directory that all evaluators of a machine share; the kernel releases those
    of a process that ends.

    An evaluator that waits to be alone is not overtaken: it holds the lock `entrance`, so that no other evaluation
    begins. Where the lock files can't be written, nothing is waited for.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def shared(self, waiting: ProgressCallback) -> Iterator[None]:
        """Beside other shared evaluations. `waiting` is called repeatedly until this one begins."""
        with self._lock("host", waiting, shared=True, behind="entrance"):
            yield

    @contextmanager
    def alone(self, waiting: ProgressCallback) -> Iterator[None]:
        """While no other evaluator computes on this machine. `waiting` is called repeatedly until this one begins."""
        with self._lock("entrance", waiting), self._lock("host", waiting):
            yield

    @contextmanager
    def _lock(
        self, name: str, waiting: ProgressCallback, shared: bool = False, behind: str | None = None
    ) -> Iterator[None]:
        path = self._directory / f"{name}.lock"
        try:
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                file = path.open("a+")
        except UserError as error:
            log.warning("times may be disturbed by other evaluators of this machine: %s", error)
            yield
            return
        with file:
            with nullcontext() if behind is None else self._lock(behind, waiting):
                while not try_lock(file, shared):
                    waiting()
                    time.sleep(WAIT_SECONDS)
            yield
