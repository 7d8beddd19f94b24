"""The supervisor as a process, with a program that only sleeps in the place of a farm's."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.farm import daemon
from deploy.farm.daemon import claim_farm, read_states, supervisor_of
from deploy.farm.log_rotation import rotated_file
from deploy.farm.orphans import farm_processes, terminate_processes
from deploy.farm.process_backend import ProcessBackend
from deploy.farm.state import FarmDirectory, FarmSpec
from tests.support.supervised import PATIENCE_SECONDS, sleeping, supervised, wait_for


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[FarmDirectory]:
    directory = FarmDirectory(tmp_path / ".farm", tmp_path / "runs")
    directory.make()
    directory.write(FarmSpec(backend="processes", evaluators=2))
    yield directory
    terminate_processes(directory.path, 0)


def test_the_supervisor_follows_the_farms_file_and_leaves_nothing_when_the_farm_goes_down(
    directory: FarmDirectory,
) -> None:
    supervisor = supervised(directory)
    directory.write(FarmSpec(backend="processes", evaluators=3))
    wait_for(lambda: sleeping(directory) == 3)
    (directory.path / "farm.json").write_text("{")  # while that can't be read nothing changes
    os.kill(read_states(directory)[0].pid or 0, signal.SIGKILL)
    wait_for(lambda: read_states(directory)[0].restarts == 1 and sleeping(directory) == 3)
    ProcessBackend(directory).down()
    supervisor.wait(PATIENCE_SECONDS)
    assert farm_processes(directory.path) == [] and read_states(directory) == []


def test_the_supervisor_keeps_all_logs_small(directory: FarmDirectory) -> None:
    (directory.broker_files / "log").mkdir()
    logs = [directory.logs / "rabbitmq.log", directory.broker_files / "log" / "nasfarm@localhost_upgrade.log"]
    for log in logs:
        log.write_bytes(5000 * b".")
    supervisor = supervised(directory)
    wait_for(lambda: all(log.stat().st_size == 0 for log in logs))
    assert all(rotated_file(log).stat().st_size == 4096 for log in logs)
    ProcessBackend(directory).down()
    supervisor.wait(PATIENCE_SECONDS)


def test_processes_of_a_killed_supervisor_are_found_and_ended(directory: FarmDirectory) -> None:
    supervisor = supervised(directory)
    supervisor.kill()
    supervisor.wait()
    farm = ProcessBackend(directory)
    assert supervisor_of(directory) is None and farm.running()
    (state,) = farm.states()
    assert (state.name, state.state) == ("supervisor", "lost") and state.detail.startswith("2 processes run without it")
    farm.down()
    assert farm_processes(directory.path) == [] and not farm.running() and farm.states() == []


def test_a_farm_has_one_supervisor(directory: FarmDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "LOOKING_SECONDS", 0.0)
    assert supervisor_of(directory) is None
    with claim_farm(directory) as first:
        assert first and supervisor_of(directory) == os.getpid()
        with claim_farm(directory) as second:
            assert not second
    assert supervisor_of(directory) is None
