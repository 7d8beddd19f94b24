"""A farm in containers: the services of deploy/compose.yml, brought up in the right order by Docker Compose or
podman-compose.

A compose project has each service once, but a farm has a coordinator for each search and evaluators of each
super-network. So the same file is brought up under several project names, all of them on one network. Starting is
compose's; what concerns containers that are there already goes by labels, the same way with both engines.
"""

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from deploy.farm.broker_files import wait_for_broker, write_broker_files
from deploy.farm.console import print_line
from deploy.farm.container_engine import BEGUN, NUMBER, PROJECT, SEARCH, SUPERNET, Container, ContainerEngine
from deploy.farm.ports import is_free
from deploy.farm.state import FarmDirectory, FarmSpec, Search
from deploy.farm.status import ServiceState
from shared.environment import Environment, usable_cores
from shared.errors import UserError
from shared.failure_policy import (
    CONTAINER_STOP_SECONDS,
    EVALUATOR_CONTAINER_STOP_SECONDS,
    MOST_CONTAINER_RESTARTS,
    USER_ERROR_CODE,
)
from shared.files import write_atomically, writing
from shared.settings import read_search_file

FILES = Path(__file__).parents[1]
USER = 10001
"""The user of the containers of a farm that root deploys: the images' own."""
PORT_DIGITS = 5
NAME_CHARACTERS = 40
"""How much of a search's name is used in the names of its containers."""
MONITORING = ("prometheus", "grafana")
DATA_DIRECTORIES = ("cache", "prometheus", "rabbitmq")
"""Directories of what containers keep."""


class ComposeBackend:
    """The backend of `make deploy`."""

    def __init__(self, directory: FarmDirectory) -> None:
        self._directory = directory
        self._data = directory.path / "containers"
        self.project = f"nasfarm-{hashlib.sha256(str(directory.path).encode()).hexdigest()[:6]}"
        self._engine = ContainerEngine.find()

    def check(self, farm: FarmSpec) -> None:
        """See whether the services' variables make sense, and the ports are free."""
        Environment.read()
        if self.running():
            return
        ports = {"FARM_PORT": farm.port, **{f"{name.upper()}_PORT": _port(name) for name in MONITORING}}
        for variable, port in ports.items():
            if not is_free(port):
                raise UserError(f"port {port} is in use; choose another: make deploy {variable}=...")

    def start_broker(self, farm: FarmSpec) -> None:
        """Build the images, and have RabbitMQ run."""
        write_broker_files(self._directory, listen="5672", seen_as="/etc/nasfarm")
        with writing(self._data):
            for name in DATA_DIRECTORIES:
                (self._data / name).mkdir(parents=True, exist_ok=True)
            (self._directory.path / "searches").mkdir(exist_ok=True)
        self._write_paths(farm)
        self._give_ownership(self._data, self._directory.credentials, self._directory.path / "searches")
        if not os.environ.get("NASFARM_IMAGES"):
            print_line("Images         take some minutes the first time")
            self._compose(farm, self.project, "build", "coordinator", "evaluator", shown=True)
        self._engine.make_network(self.project)
        self._start_service(farm, "rabbitmq")
        wait_for_broker(self._directory, farm, self._start_failure)

    def _start_failure(self) -> str | None:
        for container in self._containers("rabbitmq"):
            if container.alive and container.restarts < MOST_CONTAINER_RESTARTS:
                return None
            return self._engine.last_line(container)
        return "its container has been removed"

    def train(self, farm: FarmSpec, name: str) -> None:
        """Run the trainer, and show what it writes."""
        with self._directory.process_lock("make deploy"):  # `make down` is either before this or finds the container
            if not any(container.alive for container in self._containers("rabbitmq")):
                raise UserError(f"{name}: the farm went down meanwhile; `make deploy` resumes its fine-tuning")
            if any(container.alive for container in self._containers("trainer")):
                raise UserError(f"{name}: another fine-tuning is running; run `make deploy` again when that is done")
            self._write_paths(farm)
            self._give_ownership(self._directory.store.path, self._directory.search_file(name))
            self._start_service(farm, "trainer", {"FARM_SEARCH": name})
            trainers = self._containers("trainer")
        try:
            code = self._engine.watch(trainers[0])
            last = self._engine.last_line(trainers[0])
        except UserError as error:
            if self._containers("trainer"):
                raise
            raise UserError(
                f"{name}: the fine-tuning was stopped; `make deploy` resumes it from its last checkpoint"
            ) from error
        finally:
            self._engine.remove(self._containers("trainer"), CONTAINER_STOP_SECONDS)
        if code:
            raise UserError(f"{name}: the fine-tuning ended: {last}")

    def apply(self, farm: FarmSpec) -> None:
        """Bring up what is missing, drain what is too much."""
        self._write_paths(farm)
        for service in MONITORING:
            self._start_service(farm, service)
        there = self._containers("coordinator")
        wanted = {search.name: search for search in farm.searches}
        former = [each for each in there if not _is_current_coordinator(each, wanted.get(each.labels[SEARCH]))]
        self._engine.remove(former, CONTAINER_STOP_SECONDS)
        kept = {each.labels[SEARCH] for each in there if each not in former}
        for search in farm.searches:
            if search.name not in kept:
                self._give_ownership(self._directory.runs, recursively=False)
                self._give_ownership(self._directory.runs / search.name, self._directory.search_file(search.name))
                self._start_for_search(farm, "coordinator", search, 1)
        self._apply_evaluators(farm)

    def _apply_evaluators(self, farm: FarmSpec) -> None:
        """Evaluators are wanted as long as a search of their super-network has not ended."""
        ended = self.ended()
        served = {search.supernet: search for search in reversed(farm.searches) if search.name not in ended}
        there = self._containers("evaluator")
        for supernet in {each.labels[SUPERNET] for each in there} | served.keys():
            own = sorted((each for each in there if each.labels[SUPERNET] == supernet), key=_number)
            wanted = farm.evaluators if supernet in served else 0
            self._engine.drain(own[wanted:], EVALUATOR_CONTAINER_STOP_SECONDS)
            if sum(each.alive for each in own) < wanted:
                self._start_for_search(farm, "evaluator", served[supernet], wanted)

    def running(self) -> bool:
        """Whether the farm is up, or a part of it."""
        return any(container.alive for container in self._containers())

    def states(self) -> list[ServiceState]:
        """What the engine says of each container."""
        states = []
        for each in self._containers():
            detail = each.health if each.alive else f"exit code {each.exit_code}"
            restarted = f"restarted {each.restarts} times" if each.restarts else ""
            failed = not each.alive and _has_ended_for_good(each) and each.exit_code != 0
            text = ", ".join(filter(None, (detail, restarted)))
            states.append(ServiceState(_display_name(each), each.status, text, each.restarts, failed))
        return states

    def ended(self) -> dict[str, int]:
        """Exit codes of coordinators that aren't going to be started again."""
        return {
            each.labels[SEARCH]: each.exit_code
            for each in self._containers("coordinator")
            if not each.alive and _has_ended_for_good(each)
        }

    def last_line(self, name: str) -> str:
        """The last line of a container's log."""
        for each in self._containers():
            if _display_name(each) == name:
                return self._engine.last_line(each)
        return "its container has been removed"

    def follow_logs(self) -> None:
        """Show the logs of what runs."""
        self._engine.follow([container for container in self._containers() if container.alive])

    def down(self) -> None:
        """Stop and remove all containers: the broker last, as the others need it."""
        there = self._containers()
        evaluators = [each for each in there if each.service == "evaluator"]
        brokers = [each for each in there if each.service == "rabbitmq"]
        others = [each for each in there if each not in evaluators and each not in brokers]
        self._engine.remove(others, CONTAINER_STOP_SECONDS)
        self._engine.remove(evaluators, EVALUATOR_CONTAINER_STOP_SECONDS)
        self._engine.remove(brokers, CONTAINER_STOP_SECONDS)
        self._engine.remove_network(self.project)

    def destroy(self) -> None:
        """Remove all containers. What they keep lies in the farm's directory; podman's may belong to users that only
        it knows."""
        self._engine.remove(self._containers(), CONTAINER_STOP_SECONDS)
        self._engine.remove_network(self.project)
        shutil.rmtree(self._data, ignore_errors=True)

    def _containers(self, service: str | None = None) -> list[Container]:
        found = self._engine.containers(self.project)
        return [container for container in found if service in (None, container.service)]

    def _start_for_search(self, farm: FarmSpec, service: str, search: Search, count: int) -> None:
        """Have `count` containers of a service that a farm has several times, for a search."""
        of = search.name if service == "coordinator" else search.supernet[:12]
        project = f"{self.project}-{re.sub('[^a-z0-9]', '-', of.lower())[:NAME_CHARACTERS]}-{_short_digest(of)}"
        own = {"FARM_SEARCH": search.name, "FARM_BEGUN": str(search.begun), "FARM_SUPERNET": search.supernet}
        self._start_service(farm, service, own, project, count)

    def _start_service(
        self,
        farm: FarmSpec,
        service: str,
        own: Mapping[str, str] | None = None,
        project: str | None = None,
        count: int = 1,
    ) -> None:
        """Have `count` containers of a service, `own` being its variables besides the farm's."""
        options = ("--detach", "--no-build", "--no-recreate", "--no-deps", "--scale", f"{service}={count}")
        variables = {**(own or {}), "FARM_EVALUATORS": str(count)}
        said = self._compose(farm, project or self.project, "up", *options, service, variables=variables)
        found = [each for each in self._containers(service) if each.labels.get(PROJECT) == (project or self.project)]
        if len(found) < count:
            raise UserError(f"{service} doesn't start: {said}")

    def _compose(
        self,
        farm: FarmSpec,
        project: str,
        *arguments: str,
        shown: bool = False,
        variables: Mapping[str, str] | None = None,
    ) -> str:
        """Run a compose command; the last line that it printed, unless it is `shown`. podman-compose's exit code says
        nothing, so callers look at the containers."""
        files = [FILES / "compose.yml", *([FILES / "compose.gpu.yml"] if farm.profile == "gpu" else []), self._paths]
        options = ["-p", project, *(word for file in files for word in ("-f", str(file)))]
        done = subprocess.run(
            [*self._engine.compose, *options, *arguments],
            env={**os.environ, **self._variables(farm), **(variables or {})},
            stdin=None if shown else subprocess.DEVNULL,
            stdout=None if shown else subprocess.PIPE,
            stderr=None if shown else subprocess.STDOUT,
            text=True,
            check=False,
        )
        lines = (done.stdout or "").strip().splitlines()
        if done.returncode:
            raise UserError(
                f"{' '.join(self._engine.compose)} {arguments[0]} failed: {lines[-1] if lines else 'see above'}"
            )
        return lines[-1] if lines else ""

    def _variables(self, farm: FarmSpec) -> Mapping[str, str]:
        """The variables of the compose file that are the same for all services."""
        threads = usable_cores() // max(1, farm.evaluators * len(farm.supernets))
        # podman-compose 1.0 knows no empty defaults.
        unset = ("FARM_BEGUN", "FARM_EVALUATORS", "FARM_SEARCH", "FARM_SUPERNET")
        passed = {name: os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "NASFARM_DATA", "NASFARM_LOCATIONS")}
        return {
            **dict.fromkeys(unset, ""),
            **passed,
            "FARM_DIRECTORY": str(self._directory.path),
            "FARM_HERE": str(Path.cwd()),
            "FARM_PORT": str(farm.port),
            "FARM_PROJECT": self.project,
            "FARM_RUNS": str(self._directory.runs),
            "FARM_SUPERNETS": str(self._directory.store.path),
            "FARM_THREADS": os.environ.get("NASFARM_THREADS") or str(max(1, threads)),
            "FARM_USER": self._user,
        }

    @property
    def _user(self) -> str:
        """The user of the containers: the one who deploys, whom a rootless engine calls root."""
        if self._engine.rootless:
            return "0:0"
        return f"{os.getuid()}:{os.getgid()}" if os.getuid() else f"{USER}:{USER}"

    def _give_ownership(self, *paths: Path, recursively: bool = True) -> None:
        """Let the containers' user own what they read and write, where that isn't us."""
        if os.getuid() or self._engine.rootless:
            return
        for path in paths:
            for each in [path, *(path.rglob("*") if recursively else ())]:
                if each.exists():
                    os.chown(each, USER, USER, follow_symlinks=False)

    @property
    def _paths(self) -> Path:
        """A compose file that mounts what search files name, under the same paths as outside."""
        return self._directory.path / "paths.json"

    def _write_paths(self, farm: FarmSpec) -> None:
        names = {*farm.preparing, *(search.name for search in farm.searches)}
        files = [file for name in names if (file := self._directory.search_file(name)).exists()]
        named = sorted(_paths_named_in(files))
        if self._user == f"{USER}:{USER}":
            _check_readable(named)
        mounts = [
            {"type": "bind", "source": path, "target": path, "read_only": True}
            for path in (str(each).replace("$", "$$") for each in named)
        ]
        services = {service: {"volumes": mounts} for service in ("coordinator", "evaluator", "trainer")}
        write_atomically(self._paths, json.dumps({"services": services}, indent=2) + "\n")


def _paths_named_in(search_files: Iterable[Path]) -> set[Path]:
    """The directories and files outside that searches need: base models, training data, benchmarks."""
    names = {os.environ.get("NASFARM_DATA") or ""}
    for file in search_files:
        settings = read_search_file(file)
        names |= {settings.model, settings.training.data, settings.supernet or ""}
        for key, name in (("model", settings.model), ("supernet", settings.supernet or "")):
            if name.startswith("~"):
                raise UserError(f"{file}: {key}: containers have other homes; write the whole path instead of ~")
    paths = {Path(name).absolute() for name in names if name and Path(name).exists()}
    for path in list(paths):  # the hub's cache consists of links to elsewhere
        paths |= {link.resolve().parent for link in path.glob("*") if link.is_symlink()}
    return paths


def _check_readable(paths: Iterable[Path]) -> None:
    for path in paths:
        for each in (path, *path.glob("*")):
            if not each.stat().st_mode & stat.S_IROTH:
                raise UserError(f"{each}: containers of root's farm run as user {USER}, who can't read it; chmod a+r")


def _is_current_coordinator(container: Container, search: Search | None) -> bool:
    """Whether a coordinator is that of a search, as it was last started."""
    return search is not None and container.labels.get(BEGUN) == str(search.begun)


def _has_ended_for_good(container: Container) -> bool:
    """Whether one that has ended isn't about to be started again, or would only end in the same way."""
    return container.exit_code in {0, USER_ERROR_CODE} or container.restarts >= MOST_CONTAINER_RESTARTS


def _number(container: Container) -> int:
    return int(container.labels.get(NUMBER, "1"))


def _display_name(container: Container) -> str:
    """The name that users see."""
    labels = container.labels
    if container.service == "evaluator":
        return f"evaluator-{labels[SUPERNET][:8]}-{_number(container)}"
    return f"{container.service}-{labels[SEARCH]}" if labels.get(SEARCH) else container.service


def _port(service: str) -> int:
    """Where a monitoring service is published."""
    default = {"prometheus": 9090, "grafana": 3000}[service]
    text = os.environ.get(f"{service.upper()}_PORT") or str(default)
    if not text.isdecimal() or len(text) > PORT_DIGITS or not 0 < int(text) < 65536:
        raise UserError(f"{service.upper()}_PORT: must be a port, 1 to 65535")
    return int(text)


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]
