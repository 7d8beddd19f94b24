"""The `nasfarm` command as a process of its own that can be killed, without the time that its libraries take to load.

It is forked off a process that has loaded them already, one for each process of pytest. What depends on how the
command is installed or on how it loads its libraries is tested with `tests.support.command.start_nasfarm`.
"""

import os
import signal
import sys
import tempfile
import weakref
from functools import cache
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

from tests.support.command import environment

LIBRARIES = ["services.cli.main", "services.application.study.run_study", "sklearn.svm"]


class ForkedCommand:
    """A command that runs, or has run, with the methods of `subprocess.Popen`."""

    def __init__(self, *arguments: object, **changes: str) -> None:
        """Start it; `changes` are variables of its environment."""
        descriptor, name = tempfile.mkstemp(prefix="nasfarm-")
        os.close(descriptor)
        self._output = Path(name)
        weakref.finalize(self, self._output.unlink, missing_ok=True)
        self._process = _context().Process(
            target=_run, args=(list(map(str, arguments)), environment(**changes), Path.cwd(), self._output), daemon=True
        )
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """Wait for its end, then what it wrote to stdout and stderr. Raises TimeoutError."""
        self._process.join(timeout)
        output = self._output.read_text()
        if self._process.is_alive():
            raise TimeoutError(output)
        return output, None


@cache
def _context() -> ForkServerContext:
    context = get_context("forkserver")
    assert all(map(find_spec, LIBRARIES)), "what isn't there would be passed over in silence"
    context.set_forkserver_preload(LIBRARIES)
    return context


def _run(arguments: list[str], variables: dict[str, str], directory: Path, output: Path) -> None:
    """In the new process: run the command."""
    from services.cli.main import main

    with output.open("w") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = ["nasfarm", *arguments]
    main()
