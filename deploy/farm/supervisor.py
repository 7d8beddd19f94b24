"""Keeps programs running: starts what is wanted, restarts what crashes, stops what is no longer wanted."""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from deploy.farm.ports import accepts_connections
from shared.backoff import Backoff
from shared.failure_policy import CANT_START_CODE, QUICK_SECONDS, RESTART_PAUSE, STOP_SECONDS, USER_ERROR_CODE
from shared.telemetry.logs import fields

log = logging.getLogger(__name__)

State = Literal["waiting", "starting", "running", "stopping", "ended"]


@dataclass(frozen=True)
class Program:
    """What is to run.

    Attributes:
        name: its own, and its log's.
        command: program and arguments.
        environment: its variables.
        inherits: whether it has our variables besides.
        directory: where it is started; None: where we are.
        finishes: whether exit code 0 means that its work is done; other programs are to run for ever.
        needs: name of the program that must listen before this one starts, and that stops after it.
        listens: the port of 127.0.0.1 on which it listens when it is ready; None: it is ready at once.
        stop_seconds: how long it may take to end after SIGTERM.
        begun: how often it was asked for: a program that ended is started again when this changes, one that runs isn't.
        objection: called from its start until it listens: kills it if it must not run, and returns the reason.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    inherits: bool = True
    directory: Path | None = None
    finishes: bool = False
    needs: str | None = None
    listens: int | None = None
    stop_seconds: float = STOP_SECONDS
    begun: int = field(default=1, compare=False)
    objection: Callable[[], str | None] | None = field(default=None, compare=False)


class ProcessState(BaseModel):
    """The state of a program: since when (Unix time), as which process, how often it was started again, its last exit
    code, and the `begun` of the Program that it runs."""

    name: str
    state: State
    since: float
    pid: int | None = None
    restarts: int = 0
    exit_code: int | None = None
    begun: int = 1


WantedPrograms = Callable[[Mapping[str, int]], Sequence[Program]]
"""The programs that are to run, given the exit codes of those that ended for good."""


class Supervisor:
    """Runs what `wanted` says, each program in a session of its own with a log in `logs`.

    The caller calls `step` several times a second.
    """

    def __init__(self, wanted: WantedPrograms, logs: Path) -> None:
        self._wanted = wanted
        self._logs = logs
        self._processes: dict[str, _Process] = {}
        self._shutting_down = False

    def step(self) -> None:
        """Start, restart and stop what is due. Doesn't wait."""
        for process in self._processes.values():
            process.poll(self._listening(process.program.needs))
        wanted = [] if self._shutting_down else self._wanted(self.ended())
        programs = {program.name: program for program in wanted}
        for name, process in list(self._processes.items()):
            program = programs.get(name)
            if program is None or program != process.program:
                self._remove(name, process)
            elif program.begun != process.program.begun:
                process.restart_if_ended(program)
        for name, program in programs.items():
            process = self._processes.setdefault(name, _Process(program, self._logs / f"{name}.log"))
            if process.due and self._listening(program.needs):
                process.start()

    def shut_down(self) -> None:
        """Have everything end, in order; a second call kills what is left."""
        if self._shutting_down:
            for process in self._processes.values():
                process.kill()
        self._shutting_down = True

    @property
    def is_down(self) -> bool:
        """Whether all have ended after `shut_down`."""
        return self._shutting_down and not self._processes

    def ended(self) -> dict[str, int]:
        """Exit codes of the programs that ended for good."""
        return {
            name: process.exit_code
            for name, process in self._processes.items()
            if process.state == "ended" and process.exit_code is not None
        }

    def states(self) -> list[ProcessState]:
        """How each is."""
        return [process.described() for process in self._processes.values()]

    def _listening(self, name: str | None) -> bool:
        return name is None or (name in self._processes and self._processes[name].state == "running")

    def _remove(self, name: str, process: "_Process") -> None:
        needed = any(other.program.needs == name for other in self._processes.values())
        if not process.alive:
            del self._processes[name]
        elif not needed:
            process.stop()


class _Process:
    """A program and the process that runs it, if one does."""

    def __init__(self, program: Program, log_file: Path) -> None:
        self.program = program
        self.state: State = "waiting"
        self.exit_code: int | None = None
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None
        self._since = time.time()
        self._started = 0.0
        self._starts = 0
        self._backoff = Backoff(RESTART_PAUSE)
        self._due_at = 0.0
        self._kill_at = 0.0

    @property
    def alive(self) -> bool:
        return self._process is not None

    @property
    def due(self) -> bool:
        """Whether it is to be started now."""
        return self.state == "waiting" and time.monotonic() >= self._due_at

    def described(self) -> ProcessState:
        return ProcessState(
            name=self.program.name,
            state=self.state,
            since=self._since,
            pid=self._process.pid if self._process else None,
            restarts=max(0, self._starts - 1),
            exit_code=self.exit_code,
            begun=self.program.begun,
        )

    def restart_if_ended(self, program: Program) -> None:
        """Start it at once if it has ended, for good or not."""
        self.program = program
        if self.state in ("ended", "waiting"):
            self.exit_code, self._starts, self._due_at = None, 0, 0.0
            self._backoff.reset()
            self._enter_state("waiting")

    def start(self) -> None:
        self._started = time.monotonic()
        self._starts += 1
        try:
            with self._log_file.open("ab") as output:
                self._process = subprocess.Popen(
                    self.program.command,
                    env={**(os.environ if self.program.inherits else {}), **self.program.environment},
                    cwd=self.program.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        except OSError as error:  # the machine has no memory or disk left, or the program is being installed
            log.error("can't be started", extra=fields(program=self.program.name, error=error))
            self._exited(CANT_START_CODE, needed_was_there=False)
        else:
            self._enter_state("running" if self.program.listens is None else "starting")

    def poll(self, needed_is_there: bool) -> None:
        """Notice that it listens, that it ended, or that it doesn't end in time after SIGTERM."""
        if self._process is None:
            return
        code = self._process.poll()
        if code is not None:
            _kill_group(self._process.pid)  # what it left behind
            self._process = None
            self._exited(code, needed_is_there)
        elif self.state == "starting":
            # Asked before the objection, so that every address on which it listens by then is checked.
            ready = accepts_connections(self.program.listens or 0)
            if self.program.objection is not None and (reason := self.program.objection()) is not None:
                self._refuse(reason)
            elif ready:
                self._enter_state("running")
        elif self.state == "stopping" and time.monotonic() > self._kill_at:
            log.warning("killed, as it doesn't end", extra=fields(program=self.program.name))
            self.kill()

    def stop(self) -> None:
        """Ask it to end (SIGTERM)."""
        if self._process is not None and self.state != "stopping":
            self._process.terminate()
            self._kill_at = time.monotonic() + self.program.stop_seconds
            self._enter_state("stopping")

    def kill(self) -> None:
        """End it, and whatever it started."""
        if self._process is not None:
            _kill_group(self._process.pid)

    def _refuse(self, reason: str) -> None:
        """End it for good, and write the reason to its log."""
        if self._process is not None:
            _kill_group(self._process.pid)
            self._process.wait()
            self._process = None
        log.error("refused", extra=fields(program=self.program.name, reason=reason))
        with suppress(OSError), self._log_file.open("a", encoding="utf-8") as output:
            output.write(f"{reason}\n")
        self.exit_code = USER_ERROR_CODE
        self._enter_state("ended")

    def _exited(self, code: int, needed_was_there: bool) -> None:
        self.exit_code = code
        if self.state == "stopping":
            self.state = "waiting"
            return log.info("stopped", extra=fields(program=self.program.name, exit_code=code))
        # Without the program that it needs, it may have taken that one's absence for a user's error: it is tried again.
        if (code == 0 and self.program.finishes) or (code == USER_ERROR_CODE and needed_was_there):
            return self._enter_state("ended")
        if time.monotonic() - self._started >= QUICK_SECONDS:
            self._backoff.reset()
        else:
            self._backoff.failed()
        self._due_at = time.monotonic() + self._backoff.seconds
        return self._enter_state("waiting")

    def _enter_state(self, state: State) -> None:
        self.state = state
        self._since = time.time()
        told: dict[str, object] = {"program": self.program.name}
        if self._process is not None:
            told |= {"pid": self._process.pid}
        elif state == "waiting":
            told |= {"exit_code": self.exit_code, "again_after_seconds": self._backoff.seconds}
        else:
            told |= {"exit_code": self.exit_code}
        log.info(state, extra=fields(**told))


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return
