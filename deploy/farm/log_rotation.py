"""Logs that don't grow without bound, though programs that know nothing of it write to them."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

log = logging.getLogger(__name__)

TOTAL_BYTES = 256 * 2**20
"""What all logs together may come to."""
FILE_BYTES = 8 * 2**20
"""How large a log becomes at most before its beginning is given up, however few there are."""
LOOK_SECONDS = 2.0
COPY_BYTES = 2**20


def rotated_file(file: Path) -> Path:
    """Where what a log was before it was emptied the last time is."""
    return file.with_name(f"{file.name}.1")


class LogRotation:
    """Keeps the logs of some directories small: the end of LOG becomes LOG.1, which is replaced the next time.

    Programs inherit their logs as open files and outlive whoever opened them, so a log that is full can't be renamed:
    it is copied, then emptied. As all write at the end (O_APPEND), they continue at the beginning. What is written
    between the last read of the file and its emptying, some microseconds later, is lost.
    """

    def __init__(self, directories: Sequence[Path], clock: Callable[[], float] = time.monotonic) -> None:
        self._directories, self._clock = directories, clock
        self._due_at = clock()

    def step(self) -> None:
        """Rotate the logs that are too large, if it is time to look."""
        if self._clock() < self._due_at:
            return
        self._due_at = self._clock() + LOOK_SECONDS
        files = [file for directory in self._directories for file in directory.glob("*.log")]
        for file in files:
            try:
                if file.stat().st_size > size_limit(len(files)):
                    _rotate(file, size_limit(len(files)))
            except OSError as error:
                log.warning("a log can't be kept small: %s", error)


def size_limit(files: int) -> int:
    """How large each of so many logs may become; what is kept of its past may be twice that."""
    return min(FILE_BYTES, TOTAL_BYTES // (3 * max(1, files)))


def _rotate(file: Path, kept: int) -> None:
    """Keep the end of a log, so many bytes and up to as many that come meanwhile, and empty it."""
    with file.open("rb+") as full:
        full.seek(max(0, full.seek(0, os.SEEK_END) - kept))
        left = 2 * kept
        try:
            with rotated_file(file).open("wb") as copy:
                while left > 0 and (piece := full.read(min(left, COPY_BYTES))):
                    copy.write(piece)
                    left -= len(piece)
        except OSError as error:  # the disk is full: room matters more
            rotated_file(file).unlink(missing_ok=True)
            log.warning("a full log is emptied, and not kept: %s", error)
        full.truncate(0)
