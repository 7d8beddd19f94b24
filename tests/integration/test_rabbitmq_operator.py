"""What an operator does at the broker: adds and removes queues, looks how full they are, asks a search to end."""

import socket
import threading
import time
import urllib.error
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pika
import pytest

from deploy.farm.ports import free_port
from services.cli.farm_status_view import show_farm, stop_search
from shared.announcements import SearchAnnouncement
from shared.broker import (
    DEAD_LETTERS,
    BrokerError,
    BrokerUnreachableError,
    QueueMissingError,
    read_results,
    requests_queue,
)
from shared.broker.__main__ import main
from shared.broker.address import BrokerAddress
from shared.broker.rabbitmq import QueueDepth, RabbitBroker, queue_depths, request_stop
from shared.broker.rabbitmq.publisher import Outgoing
from shared.messages import REQUEST_VERSION, StopSearch
from tests.support.rabbitmq import ALARMS, Node, RabbitFarm, alarmed
from tests.support.supernets import write_supernet


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
    held.reject("a test")
    evaluator.close()
    while (depths := queue_depths(farm.address("operator"), [DEAD_LETTERS])) != {DEAD_LETTERS: QueueDepth(1, 0)}:
        assert time.monotonic() < deadline, depths
        time.sleep(0.1)


def test_a_search_is_asked_to_stop_and_an_unknown_one_is_named(farm: RabbitFarm, coordinator: RabbitBroker) -> None:
    request_stop(farm.address("operator"), "one")
    delivery = coordinator.receive(farm.results, 30)
    assert delivery is not None and delivery.sent_at is not None and abs(delivery.sent_at - time.time()) < 60
    assert read_results(coordinator, delivery) == (StopSearch(search="one"),)
    delivery.ack()
    with pytest.raises(QueueMissingError, match="two: no search of this name is in the farm"):
        request_stop(farm.address("operator"), "two")


def test_a_search_that_is_said_to_have_ended_is_asked_to_stop_nonetheless(
    farm: RabbitFarm, coordinator: RabbitBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    coordinator.connect(30)
    for name in ("one", "whose-queue-was-removed"):
        told = SearchAnnouncement(
            requests=REQUEST_VERSION,
            name=name,
            supernet="net",
            state="stopped",
            planned=9,
            measured=4,
            sent_at=time.time(),
        )
        coordinator.announce(told.model_dump_json().encode())
    deadline = time.monotonic() + 60
    while len(coordinator.announced(60)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for name in ("one", "whose-queue-was-removed"):
        stop_search(farm.address("operator"), name)
        assert capsys.readouterr().out == f"{name} has stopped already.\n"
    delivery = coordinator.receive(farm.results, 30)
    assert delivery is not None and read_results(coordinator, delivery) == (StopSearch(search="one"),)
    delivery.ack()


@pytest.mark.parametrize("alarm", ALARMS)
def test_a_search_is_not_asked_to_stop_later_when_a_full_broker_refused_to_ask_it(
    node: Node, farm: RabbitFarm, coordinator: RabbitBroker, alarm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.broker.rabbitmq.operator.COMMAND_BLOCKED_SECONDS", 0.5)
    with alarmed(node, alarm):
        assert queue_depths(farm.address("operator"), [farm.results]) == {farm.results: QueueDepth(0, 0)}
        with pytest.raises(BrokerError, match=r"one: not asked to stop, nothing was sent: .* memory or disk is full;"):
            request_stop(farm.address("operator"), "one")
    assert coordinator.receive(farm.results, 2) is None
    request_stop(farm.address("operator"), "one")
    delivery = coordinator.receive(farm.results, 30)
    assert delivery is not None
    delivery.ack()
    assert coordinator.receive(farm.results, 0.5) is None


def test_a_broker_that_becomes_full_while_a_search_is_asked_to_stop_says_that_it_may_stop_yet(
    node: Node, farm: RabbitFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.broker.rabbitmq.operator.COMMAND_BLOCKED_SECONDS", 0.5)
    with ExitStack() as until_then:

        class Late(Outgoing):
            @property
            def properties(self) -> pika.BasicProperties:
                until_then.enter_context(alarmed(node, "disk"))
                return super().properties

        monkeypatch.setattr("shared.broker.rabbitmq.operator.Outgoing", Late)
        with pytest.raises(BrokerError, match=r"one: RabbitMQ takes nothing now.*the search ends when it gets it"):
            request_stop(farm.address("operator"), "one")


def test_a_broker_that_isn_t_there_is_named() -> None:
    address = BrokerAddress("127.0.0.1", free_port(), "nasfarm", "operator", "secret")
    for ask in (lambda: queue_depths(address, [DEAD_LETTERS]), lambda: request_stop(address, "one")):
        with pytest.raises(BrokerUnreachableError, match=r"amqp://127\.0\.0\.1:\d+/nasfarm: not reached"):
            ask()


def test_a_host_that_does_not_answer_is_given_up_after_a_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.broker.rabbitmq.client.COMMAND_ANSWER_SECONDS", 0.2)
    monkeypatch.setattr("shared.broker.rabbitmq.operator.COMMAND_ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing
        address = BrokerAddress("127.0.0.1", silent.getsockname()[1], "nasfarm", "operator", "secret")
        with pytest.raises(BrokerUnreachableError, match=r"not reached \(no answer\).*change host and port"):
            show_farm(address, as_json=False)
        with pytest.raises(BrokerUnreachableError, match=r"not reached \(.*Timeout"):
            queue_depths(address, [DEAD_LETTERS])
    deadline = time.monotonic() + 60
    while any(thread.name == "broker nasfarm status" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_who_looks_at_a_farm_whose_broker_is_not_there_is_told_so_in_one_line_at_the_first_try(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.broker.rabbitmq.client.COMMAND_ANSWER_SECONDS", 3600)
    address = BrokerAddress("127.0.0.1", free_port(), "nasfarm", "operator", "secret")
    for ask in (lambda: show_farm(address, as_json=False), lambda: stop_search(address, "one")):
        with pytest.raises(BrokerUnreachableError, match=r"amqp://127\.0\.0\.1:\d+/nasfarm: not reached \(.*refused"):
            ask()
    assert not caplog.records


def test_the_command_adds_and_removes_queues_and_shows_no_password(
    farm: RabbitFarm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    credentials = tmp_path / "operator"
    credentials.write_text(f"operator:{farm.node.passwords['operator']}\n")
    url = f"amqp://127.0.0.1:{farm.node.port}/{farm.vhost}"
    digest = write_supernet(tmp_path / "supernet")
    options = [url, "--credentials", str(credentials), "--supernet", str(tmp_path / "supernet"), "--search", "two"]
    queue = f"/api/queues/{farm.vhost}/{requests_queue(digest)}"
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
