"""The supervisor as a process, with a program that only sleeps in the place of a farm's."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.farm import daemon as supervising
from deploy.farm.daemon import claimed, read_states, supervisor_of
from deploy.farm.log_rotation import former
from deploy.farm.orphans import end_processes, processes_of
from deploy.farm.process_backend import Processes
from deploy.farm.state import FarmDirectory, FarmSpec
from tests.support.supervised import PATIENCE_SECONDS, sleeping, supervised, wait_for


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[FarmDirectory]:
    directory = FarmDirectory(tmp_path / ".farm", tmp_path / "runs")
    directory.make()
    directory.write(FarmSpec(backend="processes", evaluators=2))
    yield directory
    end_processes(directory.path, 0)


def test_the_supervisor_follows_the_farms_file_and_leaves_nothing_when_the_farm_goes_down(
    directory: FarmDirectory,
) -> None:
    supervisor = supervised(directory)
    directory.write(FarmSpec(backend="processes", evaluators=3))
    wait_for(lambda: sleeping(directory) == 3)
    (directory.path / "farm.json").write_text("{")  # while that can't be read nothing changes
    os.kill(read_states(directory)[0].pid or 0, signal.SIGKILL)
    wait_for(lambda: read_states(directory)[0].restarts == 1 and sleeping(directory) == 3)
    Processes(directory).down()
    supervisor.wait(PATIENCE_SECONDS)
    assert processes_of(directory.path) == [] and read_states(directory) == []


def test_the_supervisor_keeps_all_logs_small(directory: FarmDirectory) -> None:
    (directory.broker_files / "log").mkdir()
    logs = [directory.logs / "rabbitmq.log", directory.broker_files / "log" / "nasfarm@localhost_upgrade.log"]
    for log in logs:
        log.write_bytes(5000 * b".")
    supervisor = supervised(directory)
    wait_for(lambda: all(log.stat().st_size == 0 for log in logs))
    assert all(former(log).stat().st_size == 4096 for log in logs)
    Processes(directory).down()
    supervisor.wait(PATIENCE_SECONDS)


def test_what_a_killed_supervisor_left_behind_is_found_and_ended(directory: FarmDirectory) -> None:
    supervisor = supervised(directory)
    supervisor.kill()
    supervisor.wait()
    farm = Processes(directory)
    assert supervisor_of(directory) is None and farm.running()
    (state,) = farm.states()
    assert (state.name, state.state) == ("supervisor", "gone") and state.detail.startswith("2 processes are without it")
    farm.down()
    assert processes_of(directory.path) == [] and not farm.running() and farm.states() == []


def test_a_farm_has_one_supervisor(directory: FarmDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "LOOKING_SECONDS", 0.0)
    assert supervisor_of(directory) is None
    with claimed(directory) as first:
        assert first and supervisor_of(directory) == os.getpid()
        with claimed(directory) as second:
            assert not second
    assert supervisor_of(directory) is None
