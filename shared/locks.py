"""Locks of files, which keep processes apart: by flock(2), which the kernel releases however a process ends.

All releases of nasfarm lock the same files this way, so each also keeps out the others. A lock file may not be a
symbolic link. `filelock` does it where a file
is nothing but a lock. It has no shared locks that go with flock (its ReadWriteLock is an SQLite database), and none of
a file that is read, written or compared by the process that opened it: for these there is `try_lock`.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from shared.files import writing

_claimed: list[FileLock] = []
"""What `claim` has locked: a FileLock that nothing refers to any more releases its lock."""


@contextmanager
def locked(path: Path, wait: Callable[[], None] | None = None) -> Iterator[bool]:
    """Hold the lock of a file, which is made if need be (not its directory) and stays there; yields whether we hold it.

    Where another process does, that is False at once; with `wait`, which is then called once, it is waited for.
    Raises UserError where the file can't be written.
    """
    lock = _lock_of(path)
    held = _acquire(lock, path, blocking=False)
    if not held and wait is not None:
        wait()
        held = _acquire(lock, path, blocking=True)
    try:
        yield held
    finally:
        lock.release()


def claim(path: Path) -> bool:
    """Lock a file as `locked` does, but until this process ends. False where another process has it."""
    lock = _lock_of(path)
    if not _acquire(lock, path, blocking=False):
        return False
    _claimed.append(lock)
    return True


def _lock_of(path: Path) -> FileLock:
    # Its substitute for flock, where a file system has none, would exclude no other release.
    return FileLock(path, thread_local=False, fallback_to_soft=False)


def _acquire(lock: FileLock, path: Path, blocking: bool) -> bool:
    with writing(path):
        try:
            lock.acquire(blocking=blocking)
        except Timeout:
            return False
    return True


def try_lock(file: IO[str] | IO[bytes] | int, shared: bool = False) -> bool:
    """Lock an open file until it is closed; `shared`: beside others that do so. False where another holds it."""
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_open_at(file: IO[str], path: Path) -> bool:
    """Whether an open file is still the one at a path: it was neither removed nor replaced since."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False
