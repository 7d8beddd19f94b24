"""A farm's supervisor as a process, with programs that only sleep in the place of the farm's."""

import os
import subprocess
import sys
import time
from collections.abc import Callable

from deploy.farm.daemon import read_states, supervisor_of
from deploy.farm.orphans import farm_variables
from deploy.farm.state import FarmDirectory

PATIENCE_SECONDS = 60
SLEEPING = """
import sys
from deploy.farm import daemon, log_rotation
from deploy.farm.supervisor import Program

class Sleeping:
    def __init__(self, *_):
        pass

    def wanted(self, farm, ended):
        return [Program(f"sleeper-{number}", ("sleep", "1000")) for number in range(farm.evaluators)]

log_rotation.FILE_BYTES = 4096
daemon.FarmPrograms = Sleeping
sys.exit(daemon.main())
"""


def supervised(directory: FarmDirectory) -> subprocess.Popen[bytes]:
    """A supervisor of a farm with two evaluators, once both sleep."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPING, directory.path, directory.runs],
        env={**os.environ, **farm_variables(directory.path)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(lambda: supervisor_of(directory) == process.pid and sleeping(directory) == 2)
    return process


def sleeping(directory: FarmDirectory) -> int:
    """How many programs run."""
    return sum(state.state == "running" for state in read_states(directory))


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
