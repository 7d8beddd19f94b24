"""The machine, shared by all evaluators on it: whoever times networks has it to itself."""

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
    """Kept by locks in a directory that all evaluators of the machine share; the system frees those of one that dies.

    Who waits to be alone is not overtaken: it holds the entrance, so that nobody begins anything new. Where no locks
    can be kept, nobody waits for anybody.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def shared(self, waiting: ProgressCallback) -> Iterator[None]:
        """Beside others who don't mind. `waiting` is called again and again until it begins."""
        with self._lock("host", waiting, shared=True, behind="entrance"):
            yield

    @contextmanager
    def alone(self, waiting: ProgressCallback) -> Iterator[None]:
        """While nobody else computes anything on this machine. `waiting` is called again and again until it begins."""
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
