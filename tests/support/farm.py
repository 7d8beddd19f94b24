"""Searches on a farm whose evaluators only pretend to measure, and what they would find undisturbed."""

import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from services.application.pipeline import open_search
from services.application.run_directory import RunDirectory
from services.application.supernet_store import Supernet
from shared.broker import requests_queue, results_queue
from shared.broker.rabbitmq import remove_queues
from shared.messages import CheckpointRef
from shared.settings import read_search_file
from tests.chaos.arena import search_values, write_supernet
from tests.support.command import environment
from tests.support.forked import Forked, command
from tests.support.rabbitmq import RabbitFarm
from tests.support.searches import search
from tests.support.stand_in import start_stand_in

PATIENCE_SECONDS = 240

Process = subprocess.Popen[bytes] | Forked


def broker_of(farm: RabbitFarm, user: str, directory: Path, tls: bool = False) -> list[object]:
    """The command line's options for a user of a farm."""
    credentials = directory / user
    credentials.write_text(f"{user}:{farm.node.passwords[user]}\n")
    node = farm.node
    url = f"amqps://localhost:{node.tls_port}" if tls else f"amqp://127.0.0.1:{node.port}"
    authority = ["--authority", node.authority] if tls else []
    return ["--broker", f"{url}/{farm.vhost}", "--credentials", credentials, *authority]


class PretendedFarm:
    """A farm in `directory` with the queues of some searches, which share a super-network; its commands run as
    processes of their own, of which none outlives `end`."""

    def __init__(
        self, farm: RabbitFarm, directory: Path, searches: Sequence[str] = ("one",), tls: bool = False
    ) -> None:
        self.farm, self.directory, self.runs = farm, directory, directory / "runs"
        self.digest = write_supernet(directory / "supernet")
        self._tls = tls
        self._processes: list[Process] = []
        self._queues = [requests_queue(self.digest), *map(results_queue, searches)]
        farm.add_queues(*self._queues)
        for seed, name in enumerate(searches):
            (directory / f"{name}.yaml").write_text(yaml.safe_dump(search_values(name, seed, 24, 8)))
            (self.runs / name).mkdir(parents=True)
            shutil.copytree(directory / "supernet", self.runs / name / "supernet")

    def broker(self, user: str) -> list[object]:
        """The options that name the broker."""
        return broker_of(self.farm, user, self.directory, self._tls)

    def evaluator(self, *options: object, release: Sequence[str] = ()) -> Process:
        """Start an evaluator that only pretends, of this release or of another (`tests.support.next_release`)."""
        arguments = [*self.broker("evaluator"), "--supernet", self.directory / "supernet", *options]
        log = self.directory / "evaluators.log"
        self._processes.append(start_stand_in(*arguments, log=log, changed=release, forked=True))
        return self._processes[-1]

    def search(self, name: str, program: Sequence[object] = (), **changes: str) -> Process:
        """Start the coordinator of a search by a program, by default a forked command; it logs to NAME.log."""
        asked = ["search", self.directory / f"{name}.yaml", "--runs", self.runs, *self.broker("coordinator")]
        arguments, log = list(map(str, asked)), self.log_of(name)
        variables = environment(**{"NASFARM_TELEMETRY_PORT": "0", **changes})
        if not program:
            self._processes.append(Forked(command, arguments, variables=variables, output=log))
            return self._processes[-1]
        with log.open("ab") as output:
            self._processes.append(
                subprocess.Popen(
                    [*map(str, program), *arguments],
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
            )
        return self._processes[-1]

    def log_of(self, name: str) -> Path:
        """Where the coordinators of a search log."""
        return self.directory / f"{name}.log"

    def ended(self, process: Process, name: str) -> int:
        """Wait for the end of a coordinator; its exit code."""
        try:
            return process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(self.log_of(name).read_text()) from None

    def wait(self, moment: Callable[[], bool], name: str) -> None:
        """Wait until something is so, while a search runs."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not moment():
            assert time.monotonic() < deadline, self.log_of(name).read_text()
            time.sleep(0.05)

    def undisturbed(self, name: str) -> Path:
        """The run of the same search in this process, without any farm."""
        run = RunDirectory(self.directory / "undisturbed" / name)
        shutil.copytree(self.runs / name / "supernet", run.supernet)
        settings, supernet = read_search_file(self.directory / f"{name}.yaml"), Supernet.read(run.supernet)
        base = CheckpointRef(location=supernet.manifest.base, digest=supernet.manifest.base_digest)
        plan, history = open_search(settings, run, supernet, base, "float32")
        history.close()
        _, _, _, history = search(plan, run.history, report=True)
        history.close()
        return run.path

    def remove_queues(self) -> None:
        """As if they had never been added."""
        remove_queues(self.farm.address("operator"), self._queues)

    def end(self) -> None:
        """Leave no process behind."""
        for process in self._processes:
            process.kill()
            process.wait()
