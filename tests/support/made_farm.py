"""A farm of processes as `make farm` brings it up, in a directory of its own, of which nothing is left in the end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.farm.daemon import read_states, supervisor_of
from deploy.farm.orphans import terminate_processes
from deploy.farm.state import FarmDirectory
from deploy.farm.supervisor import ProcessState
from tests.support.rabbitmq import require_rabbitmq

PATIENCE_SECONDS = 240


class MadeFarm:
    """The farm of a directory, and the commands that `make` gives it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.directory = FarmDirectory(path / ".farm", path / "runs")

    def make(self, *arguments: object) -> str:
        """Run a command to its end; its output."""
        ended = self.run(*arguments)
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    def run(self, *arguments: object, output: str = "output") -> subprocess.CompletedProcess[str]:
        kept = {key: value for key, value in os.environ.items() if key != "NASFARM_DATA"}
        with (self.path / output).open("w+") as file:  # a pipe would be held open by what stays in the background
            ended = subprocess.run(
                [sys.executable, "-m", "deploy.farm", *map(str, arguments)],
                cwd=self.path,
                env={**kept, "NASFARM_THREADS": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=PATIENCE_SECONDS,
            )
            file.seek(0)
            return subprocess.CompletedProcess(ended.args, ended.returncode, file.read())

    def states(self, kind: str) -> list[ProcessState]:
        return [state for state in read_states(self.directory) if state.name.startswith(kind)]

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            logs = {file.name: file.read_text()[-2000:] for file in self.directory.logs.glob("*.log")}
            assert time.monotonic() < deadline, logs
            time.sleep(0.05)


@contextmanager
def made_farm(path: Path) -> Iterator[MadeFarm]:
    """A farm whose processes are ended in any case."""
    require_rabbitmq()
    farm = MadeFarm(path)
    try:
        yield farm
    finally:
        for directory in [file.parent for file in path.glob("**/.farm/supervisor")]:
            if (supervisor := supervisor_of(FarmDirectory(directory, path / "runs"))) is not None:
                os.kill(supervisor, signal.SIGKILL)
            terminate_processes(directory, 0)
        terminate_processes(farm.directory.path, 0)
