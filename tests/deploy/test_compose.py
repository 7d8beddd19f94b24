"""`make deploy` for real: a search in containers, with an evaluator killed and one added on the way."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.farm.compose_backend import ComposeBackend
from deploy.farm.container_engine import Container, ContainerEngine
from deploy.farm.ports import free_port
from deploy.farm.state import FarmDirectory
from tests.integration.test_killed_search import measurements, run_to_the_end, stored
from tests.support.command import search_file
from tests.support.data import ROOT

PATIENCE_SECONDS = 300


class Deployed:
    """A farm in a directory of its own, as `make` commands it."""

    def __init__(self, directory: Path, images: Mapping[str, str]) -> None:
        self.directory = directory
        self.port, self.prometheus, self.grafana = (free_port() for _ in range(3))
        variables = {"PROMETHEUS_PORT": str(self.prometheus), "GRAFANA_PORT": str(self.grafana), "HF_HUB_OFFLINE": "1"}
        kept = {key: value for key, value in os.environ.items() if key != "NASFARM_DATA"}
        self._environment = {**kept, **images, **variables, "NASFARM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self.farm = FarmDirectory(directory / ".farm", directory / "runs")
        self.backend = ComposeBackend(self.farm)
        self.engine = ContainerEngine.find()

    def command(self, *arguments: str) -> str:
        """Run a command of the farm; what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "deploy.farm", *arguments],
            cwd=self.directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def containers(self, service: str) -> list[Container]:
        return [each for each in self.engine.containers(self.backend.project) if each.service == service]

    def process(self, container: Container) -> int:
        """The number of a container's process."""
        return int(self.engine.run("inspect", "--format", "{{.State.Pid}}", container.id))

    def query(self, expression: str) -> list[float]:
        """What Prometheus answers, one number for each series; nothing while it can't be reached."""
        url = f"http://127.0.0.1:{self.prometheus}/api/v1/query?query={urllib.parse.quote(expression)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return [float(series["value"][1]) for series in json.load(answer)["data"]["result"]]
        except OSError:
            return []

    def wait_for(self, moment: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not moment():
            if time.monotonic() > deadline:
                pytest.fail(f"{what}: never\n{self.logs()}", pytrace=False)
            time.sleep(0.05)

    def logs(self) -> str:
        """The last lines of all containers."""
        ends = []
        for each in self.engine.containers(self.backend.project):
            done = subprocess.run(
                [self.engine.program, "logs", "--tail", "30", each.id], capture_output=True, text=True, check=False
            )
            ends.append(f"== {each.name}: {each.status}, {each.exit_code}\n{done.stdout}{done.stderr}")
        return "\n".join(ends)


@pytest.fixture
def deployed(images: Mapping[str, str], tmp_path: Path) -> Iterator[Deployed]:
    """A farm of which nothing outlives the test."""
    farm = Deployed(tmp_path, images)
    yield farm
    farm.engine.remove(farm.engine.containers(farm.backend.project), 10)
    farm.engine.remove_network(farm.backend.project)


@pytest.mark.timeout(3600)
def test_searches_in_containers_share_evaluators_and_end_as_in_a_process_though_one_is_killed_and_one_added(
    deployed: Deployed, tmp_path: Path
) -> None:
    training = {"data": "plain_facts", "steps": 0, "calibration_tokens": 512}
    few = {"evaluations": 12, "population": 6}
    second = search_file(tmp_path, name="second", training=training, search=few).rename(tmp_path / "second.yaml")
    search = search_file(tmp_path, training=training, search={"evaluations": 60, "population": 12})
    (tmp_path / "base" / "model.safetensors").chmod(0o644)  # as the hub's; it is read by another user
    front = run_to_the_end(search, tmp_path / "embedded" / "runs")
    run = tmp_path / "runs" / "tiny"

    deployed.command("deploy", "--search", str(search), "--evaluators", "1", "--port", str(deployed.port))
    (victim,) = deployed.containers("evaluator")
    process = deployed.process(victim)
    deployed.wait_for(lambda: stored(run) >= 1, "the first measurement")
    os.kill(process, signal.SIGSTOP)  # with a request in flight: there are 12 in a generation
    held = stored(run)
    assert held < 60, "too quick"
    for container in deployed.engine.containers(deployed.backend.project):
        check_confinement(deployed, container)
    deployed.wait_for(lambda: deployed.query('up{job="coordinator"}') == [1], "the coordinator scraped")
    deployed.command("scale", "--evaluators", "2")
    deployed.wait_for(lambda: stored(run) >= held + 3, "measurements by the evaluator that was added")
    os.kill(process, signal.SIGKILL)
    deployed.wait_for(lambda: restarted(deployed, victim), "the killed evaluator's restart")
    deployed.wait_for(lambda: deployed.query('up{job="evaluator"} == 1') == [1, 1], "both evaluators scraped")
    deployed.wait_for(lambda: deployed.query('up{job="rabbitmq"}') == [1], "RabbitMQ scraped")
    assert sum(deployed.query('nasfarm_evaluator_evaluations_total{outcome="measurement"}')) >= 1
    consumers = 'rabbitmq_detailed_queue_consumers{queue=~"requests[.].+"}'
    deployed.wait_for(lambda: deployed.query(consumers) == [2], "both evaluators at the queue")
    assert "tiny" in deployed.command("status")
    for service in ("evaluator", "rabbitmq", "prometheus"):
        for container in deployed.containers(service):
            check_health(deployed, container)
    assert "nasfarm: search progress" in page(deployed.grafana, "/dashboards/search-progress.json")

    assert "there already" in deployed.command("deploy", "--search", str(second))
    assert len(deployed.containers("evaluator")) == 2 and len(deployed.containers("coordinator")) == 2
    deployed.wait_for(lambda: deployed.backend.ended() == {"tiny": 0, "second": 0}, "both searches' end")
    links = [(tmp_path / "runs" / name / "supernet").resolve() for name in ("tiny", "second")]
    assert links[0] == links[1] and links[0].parent == tmp_path / "supernets"
    assert json.loads((run / "front.json").read_text()) == front
    assert measurements(run) == measurements(tmp_path / "embedded" / "runs" / "tiny")
    assert (run / "report.html").exists()

    deployed.command("down")
    assert not deployed.engine.containers(deployed.backend.project)
    deployed.command("destroy")
    assert not (tmp_path / ".farm").exists() and (run / "report.html").exists()
    left = deployed.engine.run("network", "ls", "--format", "{{.Name}}").splitlines()
    assert deployed.backend.project not in left


def check_confinement(deployed: Deployed, container: Container) -> None:
    """Not root, no rights, nothing to write to but what is mounted, no port but on loopback, no secret told."""
    (found,) = json.loads(deployed.engine.run("inspect", container.id))
    assert found["HostConfig"]["ReadonlyRootfs"], container
    assert found["Config"]["User"].split(":")[0] not in {"", "0", "root"}, container
    status = Path(f"/proc/{deployed.process(container)}/status").read_text()
    rights = dict(re.findall(r"^(CapEff|NoNewPrivs):\s+(\w+)$", status, re.MULTILINE))
    assert rights == {"CapEff": "0" * 16, "NoNewPrivs": "1"}, container
    published: dict[str, list[dict[str, Any]] | None] = found["NetworkSettings"]["Ports"] or {}
    assert {binding["HostIp"] for bindings in published.values() for binding in bindings or []} <= {"127.0.0.1"}
    passwords = [file.read_text().strip().partition(":")[2] for file in deployed.farm.credentials.iterdir()]
    assert passwords and not [word for word in passwords if word in json.dumps(found)]


def check_health(deployed: Deployed, container: Container) -> None:
    """Run the health check: podman leaves that to systemd, which may not be there."""
    if deployed.engine.program == "podman":
        deployed.engine.run("healthcheck", "run", container.id)
    else:
        deployed.wait_for(
            lambda: all(each.health == "healthy" for each in deployed.containers(container.service)),
            f"{container.service} healthy",
        )


def restarted(deployed: Deployed, container: Container) -> bool:
    return any(each.id == container.id and each.restarts and each.alive for each in deployed.containers("evaluator"))


def page(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        text: str = answer.read().decode()
    return text
