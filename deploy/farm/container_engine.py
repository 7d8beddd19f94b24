"""Docker or podman: what runs containers here, and which of them belong to a farm."""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from deploy.farm.console import print_line, printable_log_line
from shared.errors import UserError

FARM, SEARCH, SUPERNET, BEGUN = "nasfarm.farm", "nasfarm.search", "nasfarm.supernet", "nasfarm.begun"
"""Labels of a farm's containers."""
PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
NUMBER = "com.docker.compose.container-number"

ALIVE = {"created", "initialized", "restarting", "running", "stopping"}


@dataclass(frozen=True)
class Container:
    """A container of the farm: the engine's id and name for it, its labels, and its state."""

    id: str
    name: str
    labels: dict[str, str]
    status: str
    exit_code: int
    restarts: int
    health: str

    @property
    def service(self) -> str:
        """Its service in the compose file."""
        return self.labels.get(SERVICE, "")

    @property
    def alive(self) -> bool:
        """Whether it runs, or is about to."""
        return self.status in ALIVE


@dataclass(frozen=True)
class ContainerEngine:
    """Runs containers: `program` one by one, `compose` as a file says. `rootless`: it does so with our rights alone."""

    program: str
    compose: tuple[str, ...]
    rootless: bool

    @classmethod
    def find(cls) -> Self:
        """Docker where its daemon answers, else podman. Raises UserError where there is neither."""
        if _output_of("docker", "compose", "version") is not None:
            options = _output_of("docker", "info", "--format", "{{.SecurityOptions}}")
            if options is not None:
                return cls("docker", ("docker", "compose"), "rootless" in options)
        if shutil.which("podman-compose"):
            rootless = _output_of("podman", "info", "--format", "{{.Host.Security.Rootless}}")
            if rootless is not None:
                return cls("podman", ("podman-compose",), rootless == "true")
        raise UserError(
            "no containers: Docker's daemon doesn't answer (or lacks `docker compose`), and there is no podman with "
            "podman-compose; install one of them, or run the farm as processes: make farm"
        )

    def run(self, *arguments: str) -> str:
        """Run a command of the engine, and hand back what it printed. Raises UserError with what was wrong."""
        done = subprocess.run([self.program, *arguments], capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            raise UserError(f"{self.program} {arguments[0]}: {_last_line(done.stderr)}")
        return done.stdout.strip()

    def containers(self, farm: str) -> list[Container]:
        """The containers of a farm, in the order of their names, also those that have ended."""
        while True:
            ids = self.run("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={FARM}={farm}").split()
            if not ids:
                return []
            try:
                found = json.loads(self.run("inspect", "--type", "container", *ids))
            except UserError:  # one was removed meanwhile
                continue
            return sorted((_container(each) for each in found), key=lambda container: container.name)

    def make_network(self, name: str) -> None:
        """Have a network of this name."""
        if _output_of(self.program, "network", "inspect", name) is None:
            self.run("network", "create", "--label", f"{FARM}={name}", name)

    def remove_network(self, name: str) -> None:
        """Have no network of this name."""
        if _output_of(self.program, "network", "inspect", name) is not None:
            self.run("network", "rm", name)

    def remove(self, containers: Iterable[Container], grace_seconds: int) -> None:
        """Stop containers, all at once, and remove them; those that take longer than `grace_seconds` are killed."""
        ids = [container.id for container in containers]
        if ids:
            _output_of(self.program, "stop", "-t", str(grace_seconds), *ids)  # some may have ended by themselves
            self.run("rm", "--force", *ids)

    def drain(self, containers: Iterable[Container], grace_seconds: int) -> None:
        """The same, without waiting for it."""
        for container in containers:
            script = '"$0" stop -t "$1" "$2" && "$0" rm "$2"'
            subprocess.Popen(
                ["/bin/sh", "-c", script, self.program, str(grace_seconds), container.id],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def last_line(self, container: Container) -> str:
        """The last line that a container wrote."""
        done = subprocess.run(
            [self.program, "logs", "--tail", "20", container.id],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        return _last_line(done.stdout)

    def watch(self, container: Container) -> int:
        """Show what a container writes until it ends; its exit code."""
        subprocess.run([self.program, "logs", "--follow", container.id], check=False)
        return int(self.run("wait", container.id))

    def follow(self, containers: Sequence[Container]) -> None:
        """Print what containers write, each line with who wrote it, until all have ended."""
        width = max((len(container.name) for container in containers), default=0)
        threads = [threading.Thread(target=self._follow, args=(each, width), daemon=True) for each in containers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _follow(self, container: Container, width: int) -> None:
        command = [self.program, "logs", "--follow", "--tail", "100", container.id]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            for line in process.stdout or ():
                print_line(f"{container.name:<{width}} | {printable_log_line(line)}")


def _container(found: dict[str, Any]) -> Container:
    state = found["State"]
    health = state.get("Health") or state.get("Healthcheck") or {}  # podman 4 has the second
    return Container(
        id=found["Id"],
        name=found["Name"].removeprefix("/"),
        labels=found["Config"]["Labels"] or {},
        status=state["Status"],
        exit_code=state["ExitCode"],
        restarts=found["RestartCount"],
        health=health.get("Status") or "",
    )


def _output_of(*command: str) -> str | None:
    """What a command prints, or None where it fails or is missing."""
    if shutil.which(command[0]) is None:
        return None
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env=environment)
    return done.stdout.strip() if done.returncode == 0 else None


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it has written nothing"
