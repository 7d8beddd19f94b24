"""A farm as plain processes of this machine, looked after by a supervisor in the background."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from deploy.farm.broker_files import wait_for_broker, write_broker_files
from deploy.farm.console import print_line, printable_log_line
from deploy.farm.daemon import read_states, supervisor_of
from deploy.farm.log_rotation import rotated_file
from deploy.farm.orphans import (
    TRAINER,
    farm_processes,
    farm_variables,
    send_signal,
    service_processes,
    terminate_processes,
    training_processes,
)
from deploy.farm.ports import is_free
from deploy.farm.programs import BROKER, COORDINATOR, EVALUATOR, nasfarm
from deploy.farm.rabbitmq import METRICS_PORT_ABOVE, check_installed, path_within_node
from deploy.farm.state import PORT, FarmDirectory, FarmSpec
from deploy.farm.status import ServiceState
from deploy.farm.supervisor import ProcessState, State
from shared.environment import Environment
from shared.errors import UserError
from shared.failure_policy import (
    DESTROY_KILL_SECONDS,
    DESTROY_STOP_SECONDS,
    FOLLOW_SECONDS,
    MOST_SERVICE_RESTARTS,
    ORPHANS_STOP_SECONDS,
)
from shared.files import write_atomically

SUPERVISOR = "supervisor"
SHOWN_LINES = "20"
WAIT_SECONDS = 0.2
ENDED_BY_SIGTERM = (-signal.SIGTERM, 128 + signal.SIGTERM)
RESUMED = "`make farm` resumes it from its last checkpoint"
END_BYTES = 2**16
"""How much of the end of a log is looked at for its last line."""


class ProcessBackend:
    """The processes of a farm. What they are to be is in the farm's file, on which the supervisor acts by itself."""

    def __init__(self, directory: FarmDirectory) -> None:
        self._directory = directory
        self._supervisor: subprocess.Popen[bytes] | None = None

    def check(self, farm: FarmSpec) -> None:
        check_installed()
        Environment.read()  # what the services will read
        if not self.running() and not is_free(farm.port):
            raise UserError(
                f"port {farm.port} of 127.0.0.1 is in use, perhaps by a RabbitMQ of the system (systemctl disable "
                f"--now rabbitmq-server) or another farm; stop that, or choose another port: FARM_PORT={PORT + 1}"
            )

    def start_broker(self, farm: FarmSpec) -> None:
        if supervisor_of(self._directory) is None:
            # Left behind by a supervisor that was killed. A fine-tuning is another command's, and does no harm.
            terminate_processes(self._directory.path, ORPHANS_STOP_SECONDS, service_processes)
            self.write_files(farm)
            self._start_supervisor()
        try:
            wait_for_broker(self._directory, farm, self._start_failure)
            self._wait_until_looked_at()
        except UserError:
            if self._broker_is("ended"):  # for good: nothing else of the farm can do anything
                self.down()
            raise

    def _wait_until_looked_at(self) -> None:
        """Return when the supervisor has found that RabbitMQ may run. Raises UserError if it may not."""
        while not self._broker_is("running") and supervisor_of(self._directory) is not None:
            if (reason := self._start_failure()) is not None:
                raise UserError(f"RabbitMQ doesn't start: {reason}")
            time.sleep(WAIT_SECONDS)

    def write_files(self, farm: FarmSpec) -> None:
        """Write what RabbitMQ reads, with its metrics where their port is free."""
        port = farm.port + METRICS_PORT_ABOVE
        metrics = port < 65536 and is_free(port)
        configuration = f"prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {port}\n" if metrics else ""
        seen_as = path_within_node(self._directory.broker_files)
        write_broker_files(self._directory, f"127.0.0.1:{farm.port}", seen_as, configuration)
        plugins = "[rabbitmq_prometheus].\n" if metrics else "[].\n"
        write_atomically(self._directory.broker_files / "enabled_plugins", plugins)

    def _start_supervisor(self) -> None:
        (self._directory.path / "processes.json").unlink(missing_ok=True)
        with self._log(SUPERVISOR).open("ab") as output:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-m", "deploy.farm.daemon", self._directory.path, self._directory.runs],
                env={**os.environ, **farm_variables(self._directory.path)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        while supervisor_of(self._directory) is None and self._supervisor.poll() is None:
            time.sleep(WAIT_SECONDS)

    def _start_failure(self) -> str | None:
        """Why RabbitMQ won't start."""
        if self._supervisor is not None and self._supervisor.poll() is not None:
            return f"{self._log(SUPERVISOR)}: {self.last_line(SUPERVISOR)}"
        for process in read_states(self._directory):
            if process.name == BROKER and process.state == "waiting" and process.restarts >= MOST_SERVICE_RESTARTS:
                return f"{self._log(BROKER)}: {self.last_line(BROKER)}"
        return self.last_line(BROKER) if self._broker_is("ended") else None

    def _broker_is(self, state: State) -> bool:
        return any(each.name == BROKER and each.state == state for each in read_states(self._directory))

    def train(self, farm: FarmSpec, name: str) -> None:
        processes = os.environ.get("PROCESSES") or "1"  # as compose.yml has it
        places = (str(self._directory.search_file(name)), "--runs", str(self._directory.runs))
        with self._directory.process_lock("make farm"):  # `make down` is either before this or finds the process
            if supervisor_of(self._directory) is None:
                raise UserError(f"{name}: the farm went down meanwhile; {RESUMED}")
            trainer = subprocess.Popen(
                [nasfarm(), "train", *places, "--processes", processes],
                env={**os.environ, **farm_variables(self._directory.path, TRAINER)},
            )
        try:
            code = trainer.wait()
        except BaseException:
            trainer.terminate()
            trainer.wait()
            raise
        if code in ENDED_BY_SIGTERM:
            raise UserError(f"{name}: the fine-tuning was stopped; {RESUMED}")
        if code:
            raise UserError(f"{name}: no super-network was made, for the reason above; the same command tries again")

    def apply(self, farm: FarmSpec) -> None:
        deadline = time.monotonic() + FOLLOW_SECONDS
        while not self._supervisor_follows(farm):
            if supervisor_of(self._directory) is None:
                raise UserError(
                    "the farm's supervisor has ended; `make farm` starts it again, `make down` stops what is left"
                )
            if time.monotonic() > deadline:
                raise UserError(
                    f"the farm's supervisor doesn't act on the farm's file ({self._log(SUPERVISOR)}: "
                    f"{self.last_line(SUPERVISOR)}); `make down` stops it, `make farm` starts it again"
                )
            time.sleep(WAIT_SECONDS)

    def _supervisor_follows(self, farm: FarmSpec) -> bool:
        """Whether the supervisor has seen what the farm is to be: its processes are of those that were asked for."""
        if supervisor_of(self._directory) is None:
            return False
        asked = {f"{COORDINATOR}{search.name}": search.begun for search in farm.searches}
        states = {state.name: state for state in read_states(self._directory) if state.state != "stopping"}
        evaluators = [state for name, state in states.items() if name.startswith(EVALUATOR)]
        return all(name in states and states[name].begun >= begun for name, begun in asked.items()) and all(
            state.begun >= farm.asked for state in evaluators
        )

    def running(self) -> bool:
        return supervisor_of(self._directory) is not None or bool(farm_processes(self._directory.path))

    def states(self) -> list[ServiceState]:
        if (number := supervisor_of(self._directory)) is not None:
            states = read_states(self._directory)
            unknown = "" if states else ", but its processes aren't known: processes.json is missing or damaged"
            supervisor = ServiceState(SUPERVISOR, "running", f"process {number}{unknown}")
            return [supervisor, *map(self._service_state, states)]
        if orphans := service_processes(self._directory.path):
            return [
                ServiceState(SUPERVISOR, "lost", f"{len(orphans)} processes run without it: `make farm` restarts it")
            ]
        return []

    def ended(self) -> dict[str, int]:
        return {
            process.name.removeprefix(COORDINATOR): process.exit_code
            for process in read_states(self._directory)
            if process.name.startswith(COORDINATOR) and process.state == "ended" and process.exit_code is not None
        }

    def last_line(self, name: str) -> str:
        return _last_line(self._log(name))

    def follow_logs(self) -> None:
        files = sorted(str(file) for file in self._directory.logs.glob("*.log") if file.is_file())
        if not files:
            raise UserError("no service has written a log yet; `make status` lists the services")
        with subprocess.Popen(
            ["tail", "-n", SHOWN_LINES, "-F", "--", *files],  # noqa: S607
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as tail:
            try:
                for line in tail.stdout or ():
                    print(printable_log_line(line), flush=True)
            finally:
                tail.kill()

    def down(self) -> None:
        self._signal_supervisor()
        self._end(ORPHANS_STOP_SECONDS, training_processes)
        shown: set[str] = set()
        while supervisor_of(self._directory) is not None:
            self._show_stopping(shown)
            time.sleep(WAIT_SECONDS)
        self._end(ORPHANS_STOP_SECONDS)

    def _signal_supervisor(self) -> None:
        """Have the supervisor end the farm, even if it was halted; a second time: at once."""
        number = supervisor_of(self._directory)
        if number in farm_processes(self._directory.path):  # what its file says may be damaged
            send_signal(number, signal.SIGTERM)
            send_signal(number, signal.SIGCONT)

    def _end(self, seconds: float, find: Callable[[Path], list[int]] = farm_processes) -> None:
        if left := terminate_processes(self._directory.path, seconds, find):
            raise UserError(f"processes {', '.join(map(str, left))} of the farm don't end, though they were killed")

    def _show_stopping(self, shown: set[str]) -> None:
        for process in read_states(self._directory):
            if process.state == "stopping" and process.name not in shown:
                shown.add(process.name)
                print_line(f"Stopping       {process.name}")

    def destroy(self) -> None:
        """Everything lies in the farm's directory."""
        for seconds in (DESTROY_STOP_SECONDS, DESTROY_KILL_SECONDS):
            self._signal_supervisor()
            deadline = time.monotonic() + seconds
            while supervisor_of(self._directory) is not None and time.monotonic() < deadline:
                time.sleep(WAIT_SECONDS)
        self._end(ORPHANS_STOP_SECONDS)

    def _service_state(self, process: ProcessState) -> ServiceState:
        details = [f"since {_clock(process.since)}"]
        if process.pid is not None:
            details.append(f"process {process.pid}")
        if process.restarts:
            details.append(f"started again {process.restarts} times" if process.restarts > 1 else "started again once")
        if process.exit_code and process.state in ("ended", "waiting"):
            details.append(f"exit code {process.exit_code}: {self.last_line(process.name)}")
        failed = process.state == "ended" and bool(process.exit_code)
        return ServiceState(process.name, process.state, ", ".join(details), process.restarts, failed)

    def _log(self, name: str) -> Path:
        return self._directory.logs / f"{name}.log"


def _clock(moment: float) -> str:
    try:
        return time.strftime("%H:%M:%S", time.localtime(moment))
    except (OverflowError, ValueError, OSError):  # a damaged file may say anything
        return "?"


def _last_line(file: Path) -> str:
    """The last line of a log that says something, of what was put aside if there is none in it."""
    lines = [line.strip() for part in (rotated_file(file), file) for line in _end_of(part).splitlines() if line.strip()]
    return lines[-1] if lines else "nothing was written"


def _end_of(file: Path) -> str:
    """The end of a file that may be large; nothing if there is none."""
    try:
        with file.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - END_BYTES))
            return log.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{file} can't be read ({error.strerror})"
