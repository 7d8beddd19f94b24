"""The supervisor with tiny programs in the place of RabbitMQ, coordinators and evaluators."""

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.farm import supervisor as supervisor_module
from deploy.farm.ports import free_port
from deploy.farm.supervisor import ProcessState, Program, Supervisor
from shared.backoff import BackoffLimits

PATIENCE_SECONDS = 30
FOREVER = "trap 'exit 0' TERM; echo begun; while :; do sleep 0.05; done"
STUBBORN = "trap '' TERM; echo begun; while :; do sleep 0.05; done"


def shell(name: str, script: str, **more: object) -> Program:
    return Program(name, ("/bin/sh", "-c", script), **more)  # type: ignore[arg-type]


class Bench:
    """A supervisor whose wanted programs a test changes."""

    def __init__(self, directory: Path) -> None:
        self.programs: list[Program] = []
        self.directory = directory
        self.supervisor = Supervisor(lambda _: self.programs, directory)

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.supervisor.states()
            self.supervisor.step()
            time.sleep(0.01)

    def of(self, name: str) -> ProcessState | None:
        return next((each for each in self.supervisor.states() if each.name == name), None)

    def pid(self, name: str) -> int | None:
        state = self.of(name)
        return state.pid if state and state.state == "running" else None

    def log(self, name: str) -> str:
        file = self.directory / f"{name}.log"
        return file.read_text() if file.exists() else ""

    def end(self) -> None:
        self.supervisor.shut_down()
        self.supervisor.shut_down()
        self.until(lambda: self.supervisor.is_down)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(supervisor_module, "RESTART_PAUSE", BackoffLimits(0.02, 60.0))
    bench = Bench(tmp_path)
    yield bench
    bench.end()


def test_a_program_that_is_killed_is_started_again(bench: Bench) -> None:
    bench.programs = [shell("one", FOREVER)]
    bench.until(lambda: bench.pid("one"))
    first = bench.pid("one")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    bench.until(lambda: bench.pid("one") not in (None, first))
    state = bench.of("one")
    assert state is not None and state.restarts == 1 and state.exit_code == -signal.SIGKILL


def test_a_program_that_crashes_at_once_is_started_again_ever_more_slowly(bench: Bench) -> None:
    bench.programs = [shell("one", "date +%s.%N; exit 1")]
    bench.until(lambda: len(bench.log("one").splitlines()) >= 6)
    moments = [float(line) for line in bench.log("one").splitlines()]
    for number, (earlier, later) in enumerate(itertools.pairwise(moments[:6])):
        assert later - earlier >= 0.02 * 2**number  # a busy machine only makes them longer


def test_a_program_that_can_not_be_started_is_tried_again_until_it_can(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "program"
    bench.programs = [Program("one", (str(path),))]
    bench.until(lambda: (state := bench.of("one")) and state.restarts >= 1)
    path.write_text(f"#!/bin/sh\n{FOREVER}\n")
    path.chmod(0o755)
    bench.until(lambda: bench.pid("one"))


@pytest.mark.parametrize(("code", "finishes"), [(2, False), (2, True), (0, True)])
def test_a_program_that_met_the_users_error_or_did_its_work_is_not_started_again(
    bench: Bench, code: int, finishes: bool
) -> None:
    bench.programs = [shell("one", f"echo begun; exit {code}", finishes=finishes)]
    bench.until(lambda: (state := bench.of("one")) and state.state == "ended")
    assert bench.supervisor.ended() == {"one": code}
    for _ in range(20):
        bench.supervisor.step()
    assert bench.log("one") == "begun\n"


@pytest.mark.parametrize(("code", "finishes"), [(0, False), (1, True), (75, False), (-9, True)])
def test_a_program_that_ends_otherwise_is_started_again(bench: Bench, code: int, finishes: bool) -> None:
    ending = f"exit {code}" if code >= 0 else "kill -9 $$"
    bench.programs = [shell("one", f"echo begun; {ending}", finishes=finishes)]
    bench.until(lambda: bench.log("one").count("begun") >= 2)


def test_one_that_ended_is_started_again_when_it_is_asked_for_again(bench: Bench) -> None:
    bench.programs = [shell("one", "echo begun", finishes=True)]
    bench.until(bench.supervisor.ended)
    bench.programs = [shell("one", "echo begun", finishes=True, begun=2)]
    bench.until(lambda: bench.log("one") == "begun\nbegun\n")


def test_what_runs_keeps_running_when_it_is_asked_for_again_and_what_waits_is_started_at_once(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "RESTART_PAUSE", BackoffLimits(1000.0, 1000.0))
    waiting = f"echo begun; [ -e {tmp_path}/now ] || exit 1; {FOREVER}"
    bench.programs = [shell("runs", FOREVER), shell("waits", waiting)]
    bench.until(lambda: bench.pid("runs") and (state := bench.of("waits")) and state.exit_code == 1)
    running = bench.pid("runs")
    (tmp_path / "now").touch()
    bench.programs = [shell("runs", FOREVER, begun=2), shell("waits", waiting, begun=2)]
    bench.until(lambda: bench.pid("waits"))
    assert bench.pid("runs") == running
    assert [(state.begun, state.restarts) for state in bench.supervisor.states()] == [(2, 0), (2, 0)]


def test_fewer_programs_drain_those_that_are_too_many_and_more_add_to_them(bench: Bench) -> None:
    draining = "trap 'sleep 0.2; echo drained; exit 0' TERM; echo begun; while :; do sleep 0.02; done"
    many = [shell(f"evaluator-{number}", draining) for number in range(3)]
    bench.programs = many
    bench.until(lambda: all("begun" in bench.log(each.name) for each in many))
    kept = bench.pid("evaluator-0")
    bench.programs = many[:1]
    bench.until(lambda: len(bench.supervisor.states()) == 1)
    assert bench.pid("evaluator-0") == kept
    assert [bench.log(each.name) for each in many] == ["begun\n", "begun\ndrained\n", "begun\ndrained\n"]
    bench.programs = many[:2]
    bench.until(lambda: bench.log("evaluator-1") == "begun\ndrained\nbegun\n")
    assert bench.pid("evaluator-0") == kept


def test_a_program_that_is_to_run_differently_is_drained_and_started_again(bench: Bench) -> None:
    script = "trap 'exit 0' TERM; echo $THREADS; while :; do sleep 0.02; done"
    for threads in ("2", "1"):
        bench.programs = [shell("one", script, environment={"THREADS": threads})]
        bench.until(lambda expected=threads: bench.log("one").endswith(f"{expected}\n"))
    assert bench.log("one") == "2\n1\n"


def test_a_program_that_does_not_end_is_killed_with_its_children(bench: Bench) -> None:
    bench.programs = [shell("one", f"sleep 1000 & echo $!; {STUBBORN}", stop_seconds=0.1)]
    bench.until(lambda: "begun" in bench.log("one"))
    child = int(bench.log("one").split()[0])
    bench.programs = []
    bench.until(lambda: not bench.supervisor.states())
    bench.until(lambda: gone(child))


def test_what_needs_another_waits_until_that_listens_and_ends_before_it(bench: Bench) -> None:
    port = free_port()
    listen = (
        "import socket, signal, time, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "time.sleep(0.2)\n"
        f"listener = socket.create_server(('127.0.0.1', {port}))\n"
        "print('listening', flush=True)\n"
        "time.sleep(1000)\n"
    )
    broker = Program("broker", (sys.executable, "-c", listen), listens=port)
    slow = "trap 'sleep 0.3; exit 0' TERM; while :; do sleep 0.02; done"
    bench.programs = [shell("evaluator", slow, needs="broker"), broker]
    bench.supervisor.step()
    bench.supervisor.step()
    state = bench.of("evaluator")
    assert state is not None and state.state == "waiting" and state.pid is None
    bench.until(lambda: bench.pid("evaluator"))
    assert bench.log("broker") == "listening\n"
    bench.supervisor.shut_down()
    bench.supervisor.step()
    assert bench.pid("broker") is not None
    bench.until(lambda: not bench.of("evaluator"))
    bench.until(lambda: bench.supervisor.is_down)


def test_a_users_error_without_what_it_needs_is_no_reason_to_give_up(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "RESTART_PAUSE", BackoffLimits(1000.0, 1000.0))
    waiting = f"until [ -e {tmp_path}/now ]; do sleep 0.02; done; exit 2"
    bench.programs = [shell("broker", FOREVER), shell("one", waiting, needs="broker")]
    bench.until(lambda: bench.pid("one"))
    broker = bench.pid("broker")
    assert broker is not None
    os.kill(broker, signal.SIGKILL)
    bench.until(lambda: not bench.pid("broker"))
    (tmp_path / "now").touch()
    bench.until(lambda: not bench.pid("one"))
    state = bench.of("one")
    assert state is not None and (state.state, state.exit_code) == ("waiting", 2)


def test_what_there_is_an_objection_to_is_ended_for_good_and_its_log_says_why(bench: Bench) -> None:
    asked: list[int] = []

    def objection() -> str | None:
        asked.append(1)
        return "it is open to all" if "begun" in bench.log("one") else None

    bench.programs = [shell("one", STUBBORN, listens=free_port(), objection=objection)]
    bench.until(bench.supervisor.ended)
    state = bench.of("one")
    assert state is not None and (state.state, state.exit_code, state.pid) == ("ended", 2, None)
    count = len(asked)
    for _ in range(5):
        bench.supervisor.step()
    assert bench.log("one") == "begun\nit is open to all\n" and len(asked) == count


def test_a_program_may_have_no_variables_but_its_own_and_a_directory_of_its_own(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS", "ours")
    script = 'echo "$PWD $OURS $ITS"'
    bench.programs = [
        shell("apart", script, environment={"ITS": "its"}, inherits=False, directory=tmp_path, finishes=True),
        shell("beside", script, environment={"ITS": "its"}, finishes=True),
    ]
    bench.until(lambda: len(bench.supervisor.ended()) == 2)
    assert bench.log("apart") == f"{tmp_path}  its\n"
    assert bench.log("beside") == f"{Path.cwd()} ours its\n"


def test_to_leave_twice_kills_what_does_not_end(bench: Bench) -> None:
    bench.programs = [shell("one", STUBBORN, stop_seconds=1000)]
    bench.until(lambda: "begun" in bench.log("one"))
    bench.supervisor.shut_down()
    for _ in range(5):
        bench.supervisor.step()
    assert not bench.supervisor.is_down
    bench.supervisor.shut_down()
    bench.until(lambda: bench.supervisor.is_down)


def gone(process: int) -> bool:
    """Whether a process has ended; where its parent doesn't reap it a zombie is left."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
