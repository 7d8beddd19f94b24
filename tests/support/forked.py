"""What runs as a process of its own that can be killed, without the time that its libraries take to load.

It is forked off a process that has loaded them already, the server: one for each process of pytest, or one that all of
them share. What depends on how the command is installed or on how it loads its libraries is tested with
`tests.support.command.start_nasfarm`.
"""

import faulthandler
import os
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from functools import cache
from importlib.util import find_spec
from multiprocessing import forkserver, get_context, resource_tracker
from multiprocessing.context import ForkServerContext
from pathlib import Path

LIBRARIES = [
    "services.cli.main",
    "services.application.study.run_study",
    "services.application.farm_search",
    "services.trainer.lora",
    "shared.supernet.int8",
    "sklearn.svm",
    "tests.support.stand_in",
    __name__,
]
"""What commands and evaluators load, also when they come to it; and this module, by which they are run."""
TRACEBACK = signal.SIGUSR2
"""At which a process writes where each of its threads is."""


class Forked:
    """A process that runs a function, or has run it, with the methods of `subprocess.Popen`."""

    def __init__(
        self,
        function: Callable[..., object],
        *arguments: object,
        variables: Mapping[str, str] | None = None,
        output: Path | None = None,
        error: Path | None = None,
        directory: Path | None = None,
    ) -> None:
        """Start it.

        Args:
            function: found by its name in its module, as is all that makes up its arguments.
            variables: its environment, by default this process's.
            output: the file to which it appends what it writes to stdout and stderr.
            error: the file for stderr, if that isn't the same.
            directory: its working directory, by default this process's.
        """
        if output is None:
            descriptor, name = tempfile.mkstemp(prefix="nasfarm-")
            os.close(descriptor)
            output = Path(name)
            weakref.finalize(self, output.unlink, missing_ok=True)
        output.touch()  # whoever looks at once finds it empty
        self._output = output.absolute()
        self._process = _context().Process(
            target=_run,
            args=(
                function,
                arguments,
                dict(os.environ if variables is None else variables),
                directory or Path.cwd(),
                self._output,
                (error or output).absolute(),
            ),
            daemon=True,
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    @property
    def output(self) -> str:
        """What it has written to stdout and stderr so far."""
        return self._output.read_text()

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; its exit code. Raises subprocess.TimeoutExpired, with what it wrote and where it is."""
        self._process.join(timeout)
        if (code := self.returncode) is None:
            self.send_signal(TRACEBACK)
            time.sleep(1)
            overdue = subprocess.TimeoutExpired(str(self._process.name), timeout or 0)
            overdue.add_note(self.output)
            raise overdue
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """Wait for its end, then what it wrote to stdout and stderr. Raises TimeoutError."""
        self._process.join(timeout)
        if self._process.is_alive():
            raise TimeoutError(self.output)
        return self.output, None


def killed_after(reports: int, function: Callable[..., object], *arguments: object) -> None:
    """Run a function in a process of its own, and kill it with SIGKILL when it has sent so many reports: to the
    connection that is its last argument."""
    told, tell = _context().Pipe(duplex=False)
    process = Forked(function, *arguments, tell)
    tell.close()
    with closing(told):
        for _ in range(reports):
            try:
                told.recv()
            except EOFError:
                raise AssertionError(process.communicate()[0]) from None
        process.kill()
    assert process.wait() == -signal.SIGKILL


class ForkedCommand(Forked):
    """The `nasfarm` command."""

    def __init__(self, *arguments: object, **changes: str) -> None:
        """Start it; `changes` are variables of its environment."""
        from tests.support.command import environment  # loads torch, which not all tests need

        super().__init__(command, list(map(str, arguments)), variables=environment(**changes))


def command(arguments: list[str]) -> None:
    """Run the `nasfarm` command in this process, which is its own."""
    from services.cli.main import main

    sys.argv = ["nasfarm", *arguments]
    main()


@cache
def shared_server() -> str | None:
    """Start the server, for this process and for those to which the address is given that this returns: as long as this
    process lives. None where Python has servers that only serve who started them."""
    if sys.version_info >= (3, 14):
        return None
    _context()
    kept = os.dup(sys.__stderr__.fileno())  # what libraries say while they load is for nobody
    try:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), sys.__stderr__.fileno())
        forkserver.ensure_running()
    finally:
        os.dup2(kept, sys.__stderr__.fileno())
        os.close(kept)
    address: str = forkserver._forkserver._forkserver_address
    return address


def use_server(address: str) -> None:
    """Have everything forked off the server with this address."""
    forkserver.connect_to_new_process = _SharedServer(address).connect_to_new_process


class _SharedServer(forkserver.ForkServer):
    """A server that another process has started and ends."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._forkserver_address = address
        self._forkserver_alive_fd = os.open(os.devnull, os.O_WRONLY)  # in place of what would keep the server alive

    def ensure_running(self) -> None:
        resource_tracker.ensure_running()


@cache
def _context() -> ForkServerContext:
    context = get_context("forkserver")
    assert all(map(find_spec, LIBRARIES)), "what isn't there would be passed over in silence"
    context.set_forkserver_preload(LIBRARIES)
    return context


def _run(
    function: Callable[..., object],
    arguments: tuple[object, ...],
    variables: dict[str, str],
    directory: Path,
    output: Path,
    error: Path,
) -> None:
    """In the new process: run the function."""
    for path, stream in ((output, sys.stdout), (error, sys.stderr)):
        with path.open("a") as file:
            os.dup2(file.fileno(), stream.fileno())
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(variables)
    faulthandler.register(TRACEBACK, file=sys.stderr, all_threads=True)
    function(*arguments)
