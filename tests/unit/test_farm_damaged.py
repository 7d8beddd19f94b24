"""What the commands do with a farm that is damaged: its processes are ended, and no others; its data are removed."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deploy.farm import __main__ as command_line
from deploy.farm import commands, process_backend, status
from deploy.farm.container_engine import ContainerEngine
from deploy.farm.daemon import read_states, supervisor_of
from deploy.farm.orphans import TRAINER, farm_processes, farm_variables, terminate_processes
from deploy.farm.process_backend import ProcessBackend
from deploy.farm.state import FarmDirectory, FarmSpec
from shared.errors import UserError
from tests.support.supervised import supervised, wait_for

SLEEP = [sys.executable, "-c", "import time; time.sleep(1000)"]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FarmDirectory]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(process_backend, "DESTROY_STOP_SECONDS", 1.0)
    monkeypatch.setattr(process_backend, "DESTROY_KILL_SECONDS", 1.0)
    monkeypatch.setattr(process_backend, "ORPHANS_STOP_SECONDS", 1.0)
    monkeypatch.setattr(ContainerEngine, "find", no_engine)
    directory = FarmDirectory(tmp_path / ".farm", tmp_path / "runs")
    directory.make()
    directory.write(FarmSpec(backend="processes", evaluators=2))
    yield directory
    terminate_processes(directory.path, 0)


def no_engine() -> ContainerEngine:
    raise UserError("no containers: nothing runs any")


@pytest.fixture
def started(directory: FarmDirectory) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that are ended after the test, at the latest."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def run(*arguments: str) -> int:
    return command_line.main(list(arguments))


def no_harm(_directory: FarmDirectory, _supervisor: int) -> None:
    """What a farm is like that is well."""


def damaged(directory: FarmDirectory, _supervisor: int) -> None:
    directory.farm_file.write_bytes(b"\xff{")
    (directory.path / "processes.json").write_text("[{]")


def of_a_later_release(directory: FarmDirectory, _supervisor: int) -> None:
    directory.farm_file.write_text('{"backend": "pods", "shape": "round"}')


def a_directory_in_the_place_of_its_file(directory: FarmDirectory, _supervisor: int) -> None:
    directory.farm_file.unlink()
    directory.farm_file.mkdir()


def directories_in_the_place_of_its_other_files(directory: FarmDirectory, _supervisor: int) -> None:
    for name in (".turn", ".lock", "place", "processes.json"):
        (directory.path / name).unlink(missing_ok=True)
        (directory.path / name).mkdir()


def without_its_files(directory: FarmDirectory, _supervisor: int) -> None:
    for file in ("farm.json", "processes.json"):
        (directory.path / file).unlink()


def with_a_wrong_number(directory: FarmDirectory, _supervisor: int) -> None:
    (directory.path / "supervisor").write_text("1\n")


def with_no_number(directory: FarmDirectory, _supervisor: int) -> None:
    (directory.path / "supervisor").write_text("nonsense\n")


def with_a_supervisor_that_was_halted(_directory: FarmDirectory, supervisor: int) -> None:
    os.kill(supervisor, signal.SIGSTOP)


def with_a_supervisor_that_was_killed(_directory: FarmDirectory, supervisor: int) -> None:
    os.kill(supervisor, signal.SIGKILL)


@pytest.mark.parametrize(
    "harm",
    [
        no_harm,
        damaged,
        of_a_later_release,
        a_directory_in_the_place_of_its_file,
        directories_in_the_place_of_its_other_files,
        without_its_files,
        with_a_wrong_number,
        with_no_number,
        with_a_supervisor_that_was_halted,
        with_a_supervisor_that_was_killed,
    ],
)
def test_destroying_ends_the_processes_of_a_farm_and_no_others_whatever_is_broken(
    directory: FarmDirectory,
    started: list[subprocess.Popen[bytes]],
    harm: Callable[[FarmDirectory, int], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = directory.path.with_name(".farm-of-another")
    started.append(subprocess.Popen(SLEEP, env={**os.environ, **farm_variables(other)}))
    supervisor = supervised(directory)
    started.append(supervisor)
    harm(directory, supervisor.pid)
    assert run("destroy") == 0, capsys.readouterr().err
    assert farm_processes(directory.path) == [] and not directory.path.exists()
    assert farm_processes(other) == [started[0].pid]
    assert run("destroy") == run("down") == 0  # of which nothing is left


def test_a_farm_whose_directory_is_gone_ends_by_itself_and_what_is_left_is_destroyed(
    directory: FarmDirectory, started: list[subprocess.Popen[bytes]]
) -> None:
    started.append(supervised(directory))
    directory.path.rename(directory.path.with_name("moved"))
    started[0].wait(60)
    assert farm_processes(directory.path) == [] and not directory.path.exists()
    started.append(subprocess.Popen(SLEEP, env={**os.environ, **farm_variables(directory.path)}))
    wait_for(lambda: farm_processes(directory.path))
    assert run("destroy") == 0
    assert farm_processes(directory.path) == []


@settings(max_examples=20, deadline=None)
@given(content=st.binary() | st.text().map(str.encode))
@example(b'[{"name": "a", "state": "ended", "since": 1e999}]')
def test_whatever_the_files_of_a_farm_hold_looking_at_it_ends_in_an_answer_or_in_one_line(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        directory = FarmDirectory(Path(place) / ".farm", Path(place) / "runs")
        directory.make()
        for name in ("farm.json", "processes.json", "supervisor", "place", "logs/coordinator-one.log"):
            (directory.path / name).write_bytes(content)
        farm = ProcessBackend(directory)
        read_states(directory)
        assert supervisor_of(directory) is None and farm.states() == []
        farm.ended()
        assert "\n" not in farm.last_line("coordinator-one")
        former = directory.previous_place()
        assert former is None or not former.is_there
        with suppress(UserError):
            directory.read()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_lies_in_the_place_of_the_directory_is_removed(directory: FarmDirectory, kind: str) -> None:
    elsewhere = directory.path.with_name("elsewhere")
    directory.path.rename(elsewhere)
    if kind == "file":
        directory.path.write_text("nothing")
    else:
        directory.path.symlink_to(elsewhere)
    if kind == "file":
        with pytest.raises(UserError, match=r"\.farm: is no directory; `make destroy` removes it"):
            directory.make()
    assert run("destroy") == 0
    assert not os.path.lexists(directory.path) and (elsewhere / "farm.json").exists()


@pytest.mark.parametrize("name", ["runs", "supernets", ".farm/logs"])
def test_a_directory_that_can_not_be_made_is_the_one_that_is_named(directory: FarmDirectory, name: str) -> None:
    place = directory.path.parent / name
    place.rmdir()
    place.write_text("a file")
    with pytest.raises(UserError) as refused:
        directory.make()
    assert str(refused.value).startswith(f"{place}: can't be written (")


def test_what_can_not_be_removed_is_said(
    directory: FarmDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: str, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "unlink", refuse)
    assert run("destroy") == 2
    error = capsys.readouterr().err
    assert "can't be removed (Permission denied); as root: rm -r" in error and error.count("\n") == 1


def test_containers_that_can_not_be_looked_for_are_said_and_all_else_is_removed(
    directory: FarmDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.write(FarmSpec(backend="containers"))
    assert run("destroy") == 2
    assert (
        "containers may be left (no containers: nothing runs any); then `make destroy` again" in capsys.readouterr().err
    )
    assert not directory.path.exists()


def test_destroying_does_not_wait_for_ever_for_a_command_that_was_halted(
    directory: FarmDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "DESTROY_WAIT_SECONDS", 0.3)
    with directory.process_lock("make farm"):
        assert run("destroy") == 0
    assert f"Waiting        for `make farm`, process {os.getpid()}" in capsys.readouterr().out
    assert not directory.path.exists()


def test_a_farm_whose_file_is_damaged_can_be_looked_at_and_taken_down(
    directory: FarmDirectory, started: list[subprocess.Popen[bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    started.append(supervised(directory))
    damaged(directory, 0)
    assert run("status") == 0
    output = capsys.readouterr().out
    assert "its processes aren't known" in output and "damaged, or of a later release" in output
    assert run("down") == 2
    assert "`make destroy` removes the farm" in capsys.readouterr().err
    assert farm_processes(directory.path) == []
    assert run("status") == run("farm") == run("down") == run("scale", "--evaluators", "1") == 2
    assert capsys.readouterr().err.count("damaged, or of a later release") == 4


def test_logs_and_names_of_others_are_shown_without_what_moves_the_cursor(
    directory: FarmDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory.path / "tail").write_text('#!/bin/sh\nshift 4\nexec cat "$@"\n')
    (directory.path / "tail").chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory.path}:{os.environ['PATH']}")
    farm = ProcessBackend(directory)
    with pytest.raises(UserError, match="no service has written a log yet"):
        farm.follow_logs()
    (directory.logs / "a.log").write_bytes(b"\x1b[2Jname\xff\ta\r\nnext\n")
    (directory.logs / "b.log").mkdir()
    (directory.logs / "c.log").symlink_to("nowhere")
    farm.follow_logs()
    assert capsys.readouterr().out == "�[2Jname�       a\nnext\n"
    (directory.logs / "evaluator.log").write_text("\x1b]0;title\x07bad\n")
    farm_states = '[{"name": "evaluator", "state": "ended", "since": 1e300, "exit_code": 2}]'
    (directory.path / "processes.json").write_text(farm_states)
    monkeypatch.setattr(process_backend, "supervisor_of", lambda _: 6)
    monkeypatch.setattr(status.subprocess, "run", lambda *_, **__: None)
    assert run("status") == 0
    assert "since ?, exit code 2: �]0;title�bad" in capsys.readouterr().out


def test_logs_end_quietly_when_their_reader_is_gone(
    directory: FarmDirectory, started: list[subprocess.Popen[bytes]]
) -> None:
    started.append(subprocess.Popen(SLEEP, env={**os.environ, **farm_variables(directory.path)}))
    (directory.logs / "a.log").write_text("something\n")
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "deploy.farm", "logs"]
    ended = subprocess.run(
        command, cwd=directory.path.parent, stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_fine_tuning_in_another_terminal_ends_when_the_farm_goes_down(
    directory: FarmDirectory, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "nasfarm"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    monkeypatch.setattr(process_backend, "nasfarm", lambda: str(program))
    started.append(supervised(directory))
    said: list[str] = []

    def train() -> None:
        try:
            ProcessBackend(directory).train(FarmSpec(backend="processes"), "tiny")
        except UserError as error:
            said.append(str(error))

    thread = threading.Thread(target=train)
    thread.start()
    wait_for(lambda: len(farm_processes(directory.path)) == 4)
    assert run("down") == 0
    thread.join(60)
    assert said == ["tiny: the fine-tuning was stopped; `make farm` resumes it from its last checkpoint"]
    assert farm_processes(directory.path) == [] and supervisor_of(directory) is None
    train()
    assert "the farm went down meanwhile" in said[1]


def test_a_supervisor_that_ends_just_before_it_is_told_to_is_no_error(
    directory: FarmDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    found = iter([gone.pid])
    monkeypatch.setattr(process_backend, "supervisor_of", lambda _: next(found, None))
    monkeypatch.setattr(process_backend, "farm_processes", lambda _: [gone.pid])
    ProcessBackend(directory)._signal_supervisor()


def test_a_supervisor_is_started_without_harm_to_a_fine_tuning_in_another_terminal(
    directory: FarmDirectory, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    started.append(subprocess.Popen(SLEEP, env={**os.environ, **farm_variables(directory.path, TRAINER)}))
    started.append(subprocess.Popen(SLEEP, env={**os.environ, **farm_variables(directory.path)}))
    wait_for(lambda: len(farm_processes(directory.path)) == 2)
    farm = ProcessBackend(directory)
    monkeypatch.setattr(farm, "_start_supervisor", lambda: None)
    monkeypatch.setattr(process_backend, "wait_for_broker", lambda *_: None)
    farm.start_broker(FarmSpec(backend="processes", port=1))
    assert farm_processes(directory.path) == [started[0].pid]


def test_commands_that_change_the_farms_processes_take_turns_and_those_that_end_it_do_not(
    directory: FarmDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    order: list[str] = []

    def second() -> None:
        with directory.process_lock("make farm"):
            order.append("second")

    with directory.process_lock("make down", shared=True), directory.process_lock("make down", shared=True):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join(60)
    assert order == ["first", "second"]
    assert f"Waiting        for `make down`, process {os.getpid()}\n" in capsys.readouterr().out


def test_a_turn_is_not_taken_in_a_directory_that_was_removed_meanwhile(directory: FarmDirectory) -> None:
    waited = threading.Event()

    def second() -> None:
        with directory.process_lock("make farm"):
            assert not directory.path.exists()
            waited.set()

    with directory.process_lock("make destroy", shared=True):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        directory.path.rename(directory.path.with_name("gone"))
    thread.join(60)
    assert waited.is_set()
