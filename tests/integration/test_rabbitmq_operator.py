"""What an operator does at the broker: adds and removes queues, looks how full they are, asks a search to end."""

import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.broker import DEAD_LETTERS, BrokerError, BrokerUnreachableError, QueueMissingError, read_result
from shared.broker.__main__ import main
from shared.broker.address import BrokerAddress
from shared.broker.rabbitmq import QueueDepth, RabbitBroker, queue_depths, request_stop
from shared.messages import StopSearch
from tests.support.rabbitmq import Node, RabbitFarm, free_port
from tests.support.supernets import write_supernet


@pytest.fixture
def farm(node: Node) -> RabbitFarm:
    return node.farm()


@pytest.fixture
def coordinator(farm: RabbitFarm) -> Iterator[RabbitBroker]:
    broker = RabbitBroker(farm.address("coordinator"), "coordinator")
    yield broker
    broker.close()


def test_the_depth_of_a_queue_is_what_waits_in_it_and_who_consumes_it(
    farm: RabbitFarm, coordinator: RabbitBroker
) -> None:
    coordinator.publish_all(farm.requests, [b"1", b"2", b"3"])
    evaluator = RabbitBroker(farm.address("evaluator"), "evaluator")
    held = evaluator.receive(farm.requests, 30)
    assert held is not None
    names = [farm.requests, "requests.unknown", farm.results, DEAD_LETTERS]
    expected = {
        farm.requests: QueueDepth(ready=2, consumers=1),
        "requests.unknown": None,
        farm.results: QueueDepth(ready=0, consumers=0),
        DEAD_LETTERS: QueueDepth(ready=0, consumers=0),
    }
    deadline = time.monotonic() + 60
    while (depths := queue_depths(farm.address("operator"), names)) != expected:
        assert time.monotonic() < deadline, depths  # a quorum queue counts a little later
        time.sleep(0.1)
    held.set_aside("a test")
    evaluator.close()
    while (depths := queue_depths(farm.address("operator"), [DEAD_LETTERS])) != {DEAD_LETTERS: QueueDepth(1, 0)}:
        assert time.monotonic() < deadline, depths
        time.sleep(0.1)


def test_a_search_is_asked_to_stop_and_an_unknown_one_is_named(farm: RabbitFarm, coordinator: RabbitBroker) -> None:
    request_stop(farm.address("operator"), "one")
    delivery = coordinator.receive(farm.results, 30)
    assert delivery is not None and delivery.sent_at is not None and abs(delivery.sent_at - time.time()) < 60
    assert read_result(coordinator, delivery) == StopSearch(search="one")
    delivery.ack()
    with pytest.raises(QueueMissingError, match="two: no search of this name is in the farm"):
        request_stop(farm.address("operator"), "two")


def test_a_broker_short_of_memory_doesn_t_keep_the_operator_waiting(
    node: Node, farm: RabbitFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.broker.rabbitmq.operator.BLOCKED_SECONDS", 0.5)
    node.control("set_vm_memory_high_watermark", "0.000001")
    try:
        assert queue_depths(farm.address("operator"), [farm.results]) == {farm.results: QueueDepth(0, 0)}
        with pytest.raises(
            BrokerError, match=r"results\.one: the broker takes no messages, its memory or disk is full"
        ):
            request_stop(farm.address("operator"), "one")
    finally:
        node.control("set_vm_memory_high_watermark", "0.4")


def test_a_broker_that_isn_t_there_is_named() -> None:
    address = BrokerAddress("127.0.0.1", free_port(), "nasfarm", "operator", "secret")
    for ask in (lambda: queue_depths(address, [DEAD_LETTERS]), lambda: request_stop(address, "one")):
        with pytest.raises(BrokerUnreachableError, match=r"amqp://operator@127\.0\.0\.1:\d+/nasfarm: not reached"):
            ask()


def test_the_command_adds_and_removes_queues_and_shows_no_password(
    farm: RabbitFarm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    credentials = tmp_path / "operator"
    credentials.write_text(f"operator:{farm.node.passwords['operator']}\n")
    url = f"amqp://127.0.0.1:{farm.node.port}/{farm.vhost}"
    digest = write_supernet(tmp_path / "supernet")
    options = [url, "--credentials", str(credentials), "--supernet", str(tmp_path / "supernet"), "--search", "two"]
    queue = f"/api/queues/{farm.vhost}/requests.{digest}"
    assert main(["add", *options]) == main(["add", *options]) == 0
    while not (policy := farm.node.http("GET", queue).get("effective_policy_definition")):
        time.sleep(0.1)  # the management's numbers come some seconds later
    assert (policy["delivery-limit"], policy["dead-letter-strategy"]) == (3, "at-least-once")
    options[options.index("--supernet") + 1] = digest
    assert main(["remove", *options]) == main(["remove", *options]) == 0
    with pytest.raises(urllib.error.HTTPError, match="404"):
        farm.node.http("GET", queue)
    credentials.write_text("operator:wrong\n")
    assert main(["add", *options]) == 2
    output = capsys.readouterr()
    assert output.err.count("\n") == 1 and "wrong" not in output.err and not output.out
