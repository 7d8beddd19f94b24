"""Files that are whole or not there: a reader never sees half of one, whenever the writer is killed."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import UserError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None)
"""Errors for lack of space; None: a library that writes by itself gave no number."""

NO_NAME = (errno.ENAMETOOLONG, errno.EINVAL)


class UnwritableError(UserError):
    """A place that can't be written: `what` is wrong, to be followed by what to do, and the usual remedy."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what = what


def user_path(text: str) -> Path:
    """A path as people write it, with ~ for a home directory; one of an unknown user stays as it is."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def is_directory(path: Path) -> bool:
    """Whether there is a directory of a name that a person gave; not where no file can have such a name."""
    return _is_there(path.is_dir)


def is_file(path: Path) -> bool:
    """Whether there is a file of a name that a person gave; not where no file can have such a name."""
    return _is_there(path.is_file)


def _is_there(asked: Callable[[], bool]) -> bool:
    try:
        return asked()
    except OSError as error:
        if error.errno in NO_NAME:
            return False
        raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals while `path` is written into one line for the user."""
    try:
        yield
    except OSError as error:
        remedy = "free some space or choose another place" if error.errno in NO_SPACE else "choose another place"
        raise UnwritableError(f"{path}: can't be written ({error.strerror or error})", remedy) from error


def write_atomically(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Replace `path` by `content` in one step; `mode` says who may read it.

    Raises UserError where the place can't be written or the disk is full; the former file is then still there.
    """
    data = content.encode() if isinstance(content, str) else content
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(mode)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
