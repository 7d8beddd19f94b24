"""Opening a history to look at it, whoever owns it and wherever it lies: nothing beside it is made or changed."""

import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

WAL, INDEX, JOURNAL = "-wal", "-shm", "-journal"
"""What SQLite has beside a file: what isn't in the file yet, the index into that, and what takes half a change back."""


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing and makes no files, which even reading does in the usual mode (WAL): whoever
    made them by looking would keep another user's search from writing them. Raises sqlite3.Error and OSError."""
    with path.open("rb"):  # says why it can't be read, SQLite doesn't
        pass
    path = path.resolve()  # what SQLite has beside a file lies beside the one that a link leads to
    if not _beside(path, WAL).exists() and not _beside(path, JOURNAL).exists():
        return _connected(path, "mode=ro&immutable=1")  # no process writes, and all is in the file
    if _beside(path, INDEX).exists():
        try:
            return _connected(path, "mode=ro")
        except sqlite3.OperationalError:  # the index may not be ours to read
            pass
    try:
        return _of_a_copy(path)
    except sqlite3.DatabaseError:  # copied while a process was writing
        return _of_a_copy(path)


def in_memory(connection: sqlite3.Connection) -> sqlite3.Connection:
    """A copy in memory, to be changed; closes the other one."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    with closing(connection):
        connection.backup(copy)
    return copy


def _connected(path: Path, query: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?{query}", uri=True, isolation_level=None)
    try:
        connection.execute("select 1 from sqlite_master")  # only now the files are looked at
    except BaseException:
        connection.close()
        raise
    return connection


def _of_a_copy(path: Path) -> sqlite3.Connection:
    """What a killed process left, put together elsewhere."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / path.name
        shutil.copyfile(path, copy)
        for ending in (WAL, JOURNAL):
            with suppress(FileNotFoundError):  # a search that ends removes them
                shutil.copyfile(_beside(path, ending), _beside(copy, ending))
        connection = sqlite3.connect(copy, isolation_level=None)
        return in_memory(connection)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
