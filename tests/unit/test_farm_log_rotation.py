"""Logs that are kept small while programs go on writing to them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.farm import log_rotation
from deploy.farm.log_rotation import LOOK_SECONDS, LogRotation, size_limit
from deploy.farm.state import FarmDirectory

WRITER = (
    "import sys; number = 0\nwhile True:\n    print('line', number := number + 1, flush=True); sys.stdin.readline()"
)


class Clock:
    """A clock that a test turns."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_rotation, "FILE_BYTES", 100)


def rotating(*directories: Path) -> Callable[[], None]:
    """Rotates once, as if the time for it had come."""
    clock = Clock()
    rotation = LogRotation(directories, clock)

    def now() -> None:
        clock.now += LOOK_SECONDS
        rotation.step()

    return now


@given(st.integers(0, 10_000))
def test_all_logs_together_and_each_alone_stay_within_their_bounds(files: int) -> None:
    assert 0 < size_limit(files) <= log_rotation.FILE_BYTES
    assert 3 * files * size_limit(files) <= log_rotation.TOTAL_BYTES


@pytest.mark.usefixtures("small")
def test_a_program_goes_on_writing_to_a_log_that_is_rotated_under_it_and_no_line_is_lost(tmp_path: Path) -> None:
    log, rotated_file, rotate = tmp_path / "one.log", tmp_path / "one.log.1", rotating(tmp_path)
    with log.open("ab") as output:
        writer = subprocess.Popen([sys.executable, "-c", WRITER], stdin=subprocess.PIPE, stdout=output)
    assert writer.stdin is not None
    written = ""
    with writer:
        for number in range(1, 101):
            written += f"line {number}\n"
            while not log.read_text().endswith(f"line {number}\n"):
                assert writer.poll() is None
            kept = rotated_file.read_text() if rotated_file.exists() else ""
            assert written.endswith(kept + log.read_text())  # neither a gap nor a line twice
            rotate()
            assert log.stat().st_size <= 100
            writer.stdin.write(b"\n")
            writer.stdin.flush()
        writer.kill()
    assert rotated_file.exists()


@pytest.mark.usefixtures("small")
def test_who_follows_a_log_follows_it_across_a_rotation(tmp_path: Path) -> None:
    directory = FarmDirectory(tmp_path / ".farm", tmp_path / "runs")
    directory.make()
    log, rotate = directory.logs / "one.log", rotating(directory.logs)
    log.write_text("before\n" + 100 * "." + "\n")
    follow = (
        "import sys; from pathlib import Path; from deploy.farm.process_backend import ProcessBackend; "
        "from deploy.farm.state import FarmDirectory; "
        "ProcessBackend(FarmDirectory(*map(Path, sys.argv[1:]))).follow_logs()"
    )
    command = [sys.executable, "-c", follow, directory.path, directory.runs]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as follower:
        assert follower.stdout is not None
        lines = iter(follower.stdout)
        assert "before\n" in lines
        rotate()
        with log.open("a") as output:
            output.write("after\n")
        assert "after\n" in lines
        follower.kill()


@pytest.mark.usefixtures("small")
def test_the_part_that_is_given_up_is_the_oldest(tmp_path: Path) -> None:
    log, rotate = tmp_path / "one.log", rotating(tmp_path)
    for part in (b"a" * 101, b"b" * 101, b"c" * 3):
        with log.open("ab") as output:
            output.write(part)
        rotate()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one.log", "one.log.1"]
    assert (tmp_path / "one.log.1").read_bytes() == b"b" * 100 and log.read_bytes() == b"ccc"


@pytest.mark.usefixtures("small")
def test_on_a_full_disk_a_full_log_is_emptied_all_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = tmp_path / "one.log"
    log.write_bytes(b"a" * 101)
    (tmp_path / "one.log.1").symlink_to("/dev/full")
    rotating(tmp_path)()
    assert log.read_bytes() == b"" and not (tmp_path / "one.log.1").is_symlink()
    assert "not kept" in caplog.text


@pytest.mark.usefixtures("small")
def test_what_came_in_a_flood_is_not_kept_whole(tmp_path: Path) -> None:
    (tmp_path / "one.log").write_bytes(b"a" * 10_000 + b"b" * 100)
    rotating(tmp_path)()
    assert (tmp_path / "one.log.1").read_bytes() == b"b" * 100 and (tmp_path / "one.log").read_bytes() == b""


@pytest.mark.usefixtures("small")
def test_a_log_that_can_not_be_rotated_keeps_no_other_from_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.log").symlink_to(tmp_path / "missing")
    (tmp_path / "b.log").mkdir()
    for number in range(20):
        (tmp_path / "b.log" / f"{number:0200}").touch()  # a directory larger than the limit
    (tmp_path / "c.log").write_bytes(b"a" * 101)
    rotating(tmp_path)()
    assert (tmp_path / "c.log").read_bytes() == b"" and "can't be kept small" in caplog.text


@pytest.mark.usefixtures("small")
def test_logs_are_looked_at_now_and_then_only(tmp_path: Path) -> None:
    clock = Clock()
    rotation = LogRotation([tmp_path, tmp_path / "not there"], clock)
    rotation.step()
    (tmp_path / "one.log").write_bytes(b"a" * 101)
    rotation.step()
    assert (tmp_path / "one.log").stat().st_size == 101
    clock.now += LOOK_SECONDS
    rotation.step()
    assert (tmp_path / "one.log").stat().st_size == 0
