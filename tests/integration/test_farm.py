"""A search over RabbitMQ with evaluators that are processes of their own, and with those and the search killed."""

import json
import shutil
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.farm.ports import free_port
from shared.architecture import dense
from shared.broker import requests_queue, results_queue
from shared.broker.rabbitmq import RabbitBroker
from shared.manifest import SupernetManifest
from tests.integration.test_killed_search import measurements, run_to_the_end, stored, wait_for
from tests.support.command import search_file
from tests.support.farm import broker_of
from tests.support.forked import ForkedCommand
from tests.support.instructions import few_instructions
from tests.support.rabbitmq import Node, RabbitFarm
from tests.support.searches import SHAPE, small_plan

PATIENCE_SECONDS = 240

Start = Callable[..., ForkedCommand]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts commands, of which none outlives the test."""
    started: list[ForkedCommand] = []

    def start(*arguments: object, **environment: str) -> ForkedCommand:
        started.append(ForkedCommand(*arguments, **environment))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a search without any broker, beside its search file."""
    directory = tmp_path_factory.mktemp("farm")
    search = search_file(
        directory,
        training={"data": few_instructions(directory), "steps": 0, "calibration_tokens": 512},
        search={"evaluations": 36, "population": 12},
    )
    run_to_the_end(search, directory / "embedded")
    return directory / "embedded" / "tiny"


@pytest.fixture
def farm(node: Node, undisturbed: Path) -> RabbitFarm:
    """A broker with the queues of that search."""
    farm = node.farm()
    digest = SupernetManifest.read(undisturbed / "supernet").digest
    farm.add_queues(requests_queue(digest), results_queue("tiny"))
    return farm


def test_a_search_by_two_evaluators_of_which_one_is_killed_and_killed_itself_ends_like_one_in_a_single_process(
    start: Start, farm: RabbitFarm, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "tiny"
    shutil.copytree(undisturbed / "supernet", run / "supernet")
    ports = free_port(), free_port()
    served = ["evaluator", *broker_of(farm, "evaluator", tmp_path), "--supernet", run / "supernet"]
    victim, survivor = (start(*served, NASFARM_TELEMETRY_PORT=str(port)) for port in ports)
    wait_for(lambda: all(ready(port) for port in ports), victim)
    command = ["search", undisturbed.parents[1] / "search.yaml", "--runs", tmp_path]
    command += broker_of(farm, "coordinator", tmp_path)

    first = start(*command)
    wait_for(lambda: stored(run) >= 3, first)
    victim.send_signal(signal.SIGSTOP)  # with a message in flight, of one network or two: there are 12 in a generation
    wait_for(lambda: stored(run) >= 10, first)
    victim.kill()
    victim.communicate()
    wait_for(lambda: stored(run) >= 16, first)
    first.kill()
    first.communicate()
    second = start(*command)
    output, _ = second.communicate(timeout=PATIENCE_SECONDS)
    assert second.returncode == 0, output

    assert json.loads((run / "front.json").read_text()) == json.loads((undisturbed / "front.json").read_text())
    assert measurements(run) == measurements(undisturbed)
    identities = [identity for identity, _ in measurements(run)]
    assert len(identities) == len(set(identities))
    assert asked(ports[1], "/healthz") == asked(ports[1], "/readyz") == "ok\n"
    metrics = dict(line.rsplit(" ", 1) for line in asked(ports[1], "/metrics").splitlines())
    assert float(metrics['nasfarm_evaluator_evaluations_total{outcome="measurement"}']) > 0
    assert float(metrics["nasfarm_broker_redeliveries_total"]) == 1  # what the victim had in flight
    survivor.send_signal(signal.SIGTERM)
    log, _ = survivor.communicate(timeout=PATIENCE_SECONDS)
    assert survivor.returncode == 0, log
    assert "evaluator stopped" in log and "Traceback" not in log


def test_messages_that_are_none_and_checkpoints_that_differ_stop_no_evaluator(
    start: Start, farm: RabbitFarm, undisturbed: Path, tmp_path: Path
) -> None:
    supernet = undisturbed / "supernet"
    queue = requests_queue(SupernetManifest.read(supernet).digest)
    farm.add_queues(results_queue("small"))
    evaluator = start(
        *["evaluator", *broker_of(farm, "evaluator", tmp_path), "--supernet", supernet.as_uri()],
        NASFARM_TELEMETRY_PORT="0",
        NASFARM_CACHE=str(tmp_path / "cache"),
        NASFARM_LOCATIONS=str(supernet),
    )
    request = small_plan().request(dense(SHAPE), "search")
    outcomes: dict[str, dict[str, object]] = {}
    broker = RabbitBroker(farm.address("coordinator"), "test")
    try:
        broker.publish(queue, b"{}")
        for location in (str(supernet), str(supernet.parent)):
            checkpoint = request.checkpoint.model_copy(update={"location": location})
            other = request.model_copy(update={"checkpoint": checkpoint})
            broker.publish(queue, other.model_dump_json().encode())
            delivery = broker.receive(results_queue("small"), PATIENCE_SECONDS)
            assert delivery is not None
            outcomes[location] = json.loads(delivery.body)["outcome"]
            delivery.ack()
    finally:
        broker.close()
    assert all(each["kind"] == "unavailable" for each in outcomes.values())
    assert "digest differs" in str(outcomes[str(supernet)]["reason"])
    assert "may open no checkpoint there" in str(outcomes[str(supernet.parent)]["reason"])
    evaluator.send_signal(signal.SIGTERM)
    log, _ = evaluator.communicate(timeout=PATIENCE_SECONDS)
    assert evaluator.returncode == 0, log
    assert "rejected" in log and "Traceback" not in log


def ready(port: int) -> bool:
    try:
        return asked(port, "/readyz") == "ok\n"
    except OSError:  # not there yet, or not connected yet
        return False


def asked(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        text: str = answer.read().decode()
    return text
