"""The supervisor's process: runs a farm as its file says, until SIGTERM.

python -m deploy.farm.daemon FARM_DIRECTORY RUNS
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from pydantic import TypeAdapter, ValidationError

from deploy.farm.log_rotation import LogRotation
from deploy.farm.orphans import terminate_processes
from deploy.farm.ports import free_port
from deploy.farm.programs import FarmPrograms
from deploy.farm.state import FarmDirectory, FarmSpec
from deploy.farm.supervisor import ProcessState, Program, Supervisor
from shared.errors import UserError
from shared.failure_policy import ORPHANS_STOP_SECONDS
from shared.files import write_atomically
from shared.locks import is_open_at, try_lock
from shared.telemetry.logs import configure_logs

log = logging.getLogger("deploy.farm.daemon")  # this module is also run as __main__

STEP_SECONDS = 0.2
LOOKING_SECONDS = 2.0
"""A command that looks whether there is a supervisor holds its lock, for much less time."""
STATES = TypeAdapter(list[ProcessState])


def main() -> int:
    """Run the farm. Returns the exit code."""
    configure_logs("text")
    logging.getLogger("deploy").setLevel(logging.INFO)
    directory = FarmDirectory(*map(Path, sys.argv[1:3]))
    with claim_farm(directory) as claim:
        if claim is not None:
            supervise(directory, claim)
    return 0


def supervise(directory: FarmDirectory, claim: TextIO) -> None:
    """Run the farm until SIGTERM, then end its processes in order; at a second SIGTERM at once, as well as when the
    directory was moved or removed: `claim` is then no file of it any more."""
    wanted = _ProgramsOfFarmFile(directory, FarmPrograms(directory, (free_port(), free_port())))
    supervisor = Supervisor(wanted, directory.logs)
    rotation = LogRotation([directory.logs, directory.broker_files / "log"])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.shut_down())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the shell that started it may go
    log.info("supervisor ready")
    written: list[ProcessState] | None = None
    while not supervisor.is_down:
        supervisor.step()
        rotation.step()
        if not is_open_at(claim, directory.path / "supervisor"):
            supervisor.shut_down()  # first in order, at the next step at once
        elif (states := supervisor.states()) != written:
            try:
                write_states(directory, states)
                written = states
            except UserError as error:  # the disk is full: the processes matter more
                log.error("%s", error)
        time.sleep(STEP_SECONDS)
    terminate_processes(directory.path, ORPHANS_STOP_SECONDS)  # epmd, which outlives RabbitMQ
    log.info("supervisor stopped")


class _ProgramsOfFarmFile:
    """The programs of the farm as its file says now; while that can't be read, as it last said."""

    def __init__(self, directory: FarmDirectory, programs: FarmPrograms) -> None:
        self._directory = directory
        self._programs = programs
        self._farm: FarmSpec | None = None

    def __call__(self, ended: Mapping[str, int]) -> Sequence[Program]:
        try:
            self._farm = self._directory.read()
        except UserError as error:
            log.error("%s", error)
        return [] if self._farm is None else self._programs.wanted(self._farm, ended)


@contextmanager
def claim_farm(directory: FarmDirectory) -> Iterator[TextIO | None]:
    """The file that makes us the farm's only supervisor, as long as it is open; None if there is another one."""
    with (directory.path / "supervisor").open("a+") as lock:  # the kernel releases it however this process ends
        if not _locked(lock):
            yield None
            return
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield lock


def _locked(lock: TextIO) -> bool:
    deadline = time.monotonic() + LOOKING_SECONDS
    while not try_lock(lock):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def supervisor_of(directory: FarmDirectory) -> int | None:
    """Process number of the farm's supervisor; None if there is none, or if its file was damaged."""
    try:
        with (directory.path / "supervisor").open() as lock:
            if not try_lock(lock, shared=True):
                number = int(lock.read() or 0)
                return number if number > 0 else None
    except (OSError, ValueError):
        return None
    return None


def write_states(directory: FarmDirectory, states: list[ProcessState]) -> None:
    """Tell the commands how the processes are."""
    write_atomically(directory.path / "processes.json", STATES.dump_json(states, indent=2) + b"\n")


def read_states(directory: FarmDirectory) -> list[ProcessState]:
    """What `write_states` wrote last; nothing where that can't be read. It is written again at the next change."""
    try:
        return STATES.validate_json((directory.path / "processes.json").read_bytes())
    except (OSError, ValidationError):
        return []


if __name__ == "__main__":
    sys.exit(main())
