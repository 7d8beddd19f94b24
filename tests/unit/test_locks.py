"""Locks between processes, which are real here; those of earlier releases lock by flock(2)."""

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.errors import UserError
from shared.locks import claim, is_open_at, locked, try_lock

REPOSITORY = Path(__file__).parents[2]
TODAY = "from pathlib import Path; from shared.locks import locked; held = locked(Path(sys.argv[1])); held.__enter__()"
CLAIMING = "from pathlib import Path; from shared.locks import claim; assert claim(Path(sys.argv[1]))"
EARLIER = "import fcntl; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX)"


@contextmanager
def another_process(locking: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has locked a file and keeps it so."""
    script = f"import sys; {locking}; print('locked', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", script, path],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("locking", [TODAY, CLAIMING, EARLIER])
def test_what_another_process_has_locked_is_not_ours_until_it_is_killed(locking: str, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with another_process(locking, path) as process:
        with locked(path) as ours:
            assert not ours
        assert not claim(path)
        with path.open() as file:
            assert not try_lock(file) and not try_lock(file, shared=True)
        asked: list[bool] = []
        with locked(path, wait=lambda: (asked.append(True), process.kill())[0]) as ours:
            assert ours
        assert asked == [True]


def test_what_we_have_locked_is_not_another_releases_and_the_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "lock"
    with locked(path) as ours, path.open() as file:
        assert ours
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_claim_lasts(tmp_path: Path) -> None:
    assert claim(tmp_path / "lock")
    assert not claim(tmp_path / "lock")


def test_locks_are_shared_only_by_those_that_share_them(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as first, path.open() as second, path.open() as third:
        assert try_lock(first, shared=True) and try_lock(second, shared=True)
        assert not try_lock(third)


def test_a_file_that_was_replaced_is_not_the_one_that_is_open(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as file:
        assert is_open_at(file, path)
        path.unlink()
        assert not is_open_at(file, path)
        path.touch()
        assert not is_open_at(file, path)


def test_a_lock_that_cant_be_kept_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="file/lock: can't be written"), locked(tmp_path / "file" / "lock"):
        pass
