"""Nothing that was confirmed is lost, whatever happens to the broker or the connections to it."""

import threading
import time

import pytest

from deploy.farm.ports import free_port
from shared.backoff import BackoffLimits
from shared.broker import Broker, BrokerUnreachableError, QueueMissingError, read_results
from shared.broker.address import BrokerAddress
from shared.broker.rabbitmq import RabbitBroker, remove_queues
from tests.support.forwarding import forwarder
from tests.support.poison import POISONS, publish_poison
from tests.support.rabbitmq import ALARMS, Join, Node, RabbitFarm, alarmed


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is back is found within a second, not after the longest pause."""
    monkeypatch.setattr("shared.broker.rabbitmq.client.RECONNECT_PAUSE", BackoffLimits(0.25, 1.0))


def drain(broker: Broker, queue_name: str, until: set[bytes]) -> list[bytes]:
    """All messages, until each of `until` has come."""
    received: list[bytes] = []
    deadline = time.monotonic() + 120
    while not until <= set(received):
        assert time.monotonic() < deadline, f"{len(until - set(received))} messages are lost"
        delivery = broker.receive(queue_name, 1)
        if delivery is not None:
            received.append(delivery.body)
            delivery.ack()
    return received


def restart(node: Node) -> None:
    node.kill()
    node.start()


def test_a_broker_killed_while_messages_are_published_loses_none_that_was_confirmed(
    node: Node, farm: RabbitFarm, join: Join
) -> None:
    coordinator, evaluator = join("coordinator"), join("evaluator")
    farm.settle()
    confirmed: set[bytes] = set()
    stop = threading.Event()

    def publish(name: str) -> None:
        number = 0
        while not stop.is_set():
            body = f"{name} {number}".encode()
            coordinator.publish(farm.requests, body)
            confirmed.add(body)
            number += 1

    publishers = [threading.Thread(target=publish, args=(name,)) for name in "abc"]
    for publisher in publishers:
        publisher.start()
    while len(confirmed) < 100:
        time.sleep(0.05)
    restart(node)
    before = len(confirmed)
    while len(confirmed) < before + 100:
        time.sleep(0.05)
    stop.set()
    for publisher in publishers:
        publisher.join(60)
    assert coordinator.counters.reconnects >= 1
    received = drain(evaluator, farm.requests, confirmed)
    assert set(received) == confirmed


def test_a_broker_killed_while_a_message_is_in_hand_delivers_it_again_and_ignores_the_old_acknowledgement(
    node: Node, farm: RabbitFarm, join: Join
) -> None:
    coordinator, evaluator = join("coordinator"), join("evaluator")
    coordinator.publish(farm.requests, b"x")
    held = evaluator.receive(farm.requests, 30)
    assert held is not None
    farm.settle()
    restart(node)
    again = evaluator.receive(farm.requests, 120)
    assert again is not None and (again.body, again.identity) == (b"x", held.identity)
    held.ack()
    coordinator.publish(farm.requests, b"y")
    again.ack()
    assert drain(evaluator, farm.requests, {b"y"}) == [b"y"]


def test_a_channel_closed_by_the_broker_is_opened_again(node: Node, farm: RabbitFarm, join: Join) -> None:
    def consumer_timeout(milliseconds: int, tick: int) -> None:
        settings = {"consumer_timeout": milliseconds, "channel_tick_interval": tick}
        node.control(
            "eval", ", ".join(f"application:set_env(rabbit, {key}, {settings[key]})" for key in settings) + "."
        )

    consumer_timeout(1000, 500)
    try:
        evaluator = join("evaluator")
        join("coordinator").publish(farm.requests, b"x")
        held = evaluator.receive(farm.requests, 30)
        again = evaluator.receive(farm.requests, 30)  # only a lost channel makes the broker deliver a second one
        assert held is not None and again is not None
        assert (again.identity, again.attempt) == (held.identity, 2)
        held.ack()
        again.ack()
        assert evaluator.connected and evaluator.counters.reconnects == 0
    finally:
        consumer_timeout(7_800_000, 60_000)


def test_a_deleted_queue_ends_its_consumer_with_a_word_and_works_again_once_it_is_back(
    node: Node, farm: RabbitFarm, join: Join
) -> None:
    coordinator, evaluator = join("coordinator"), join("evaluator")
    assert evaluator.receive(farm.requests, 0.5) is None
    remove_queues(farm.address("operator"), [farm.requests])
    with pytest.raises(
        QueueMissingError, match=r"requests\.net\.v5: the broker has no such queue; let an operator add it"
    ):
        evaluator.receive(farm.requests, 30)
    with pytest.raises(QueueMissingError):
        coordinator.publish(farm.requests, b"x")
    farm.add_queues(farm.requests)
    coordinator.publish(farm.requests, b"x")
    assert drain(evaluator, farm.requests, {b"x"}) == [b"x"]


def test_lost_connections_are_made_again_and_what_was_in_hand_comes_again(
    node: Node, farm: RabbitFarm, join: Join
) -> None:
    coordinator, evaluator = join("coordinator"), join("evaluator")
    coordinator.publish(farm.requests, b"x")
    held = evaluator.receive(farm.requests, 30)
    assert held is not None
    node.control("close_all_connections", "--vhost", farm.vhost, "a test")
    again = evaluator.receive(farm.requests, 60)
    assert again is not None and again.identity == held.identity
    again.ack()
    coordinator.publish(farm.requests, b"y")
    assert drain(evaluator, farm.requests, {b"y"}) == [b"y"]
    assert coordinator.counters.reconnects == evaluator.counters.reconnects == 1


def test_a_broker_that_hangs_is_noticed_by_its_silence_and_joined_again_when_it_is_back(
    node: Node, farm: RabbitFarm
) -> None:
    broker = RabbitBroker(farm.address("coordinator"), "impatient", heartbeat_seconds=2)
    try:
        broker.connect(30)
        published = threading.Thread(target=broker.publish, args=(farm.requests, b"x"))
        with node.frozen():
            published.start()
            while broker.connected:
                time.sleep(0.05)
            assert published.is_alive()
        published.join(60)
        assert broker.connected and broker.counters.reconnects == 1
        assert time.monotonic() - broker.pumped_at < 10
    finally:
        broker.close()


def test_a_connection_that_goes_silent_is_noticed_by_both_ends_and_what_was_in_hand_comes_again(
    node: Node, farm: RabbitFarm, join: Join
) -> None:
    coordinator = join("coordinator")
    coordinator.publish(farm.requests, b"x")
    with forwarder(node.port) as way:
        evaluator = RabbitBroker(farm.address("evaluator", way.port), "half-open", heartbeat_seconds=2)
        try:
            held = evaluator.receive(farm.requests, 30)
            assert held is not None and evaluator.connected
            way.go_silent()
            evaluator.publish(farm.results, b"y")  # returns when the next connection brought it over
            held.ack()
            again = evaluator.receive(farm.requests, 60)
            assert again is not None
            assert (again.body, again.identity, again.attempt) == (b"x", held.identity, 2)
            again.ack()
            assert evaluator.counters.reconnects >= 1
        finally:
            evaluator.close()
    assert drain(coordinator, farm.results, {b"y"}) == [b"y"]
    assert coordinator.counters.reconnects == 0
    assert join("evaluator").receive(farm.requests, 0.5) is None


@pytest.mark.parametrize("alarm", ALARMS)
def test_a_broker_short_of_memory_or_disk_makes_publishers_wait_and_loses_and_doubles_nothing(
    node: Node, farm: RabbitFarm, join: Join, alarm: str
) -> None:
    coordinator, evaluator = join("coordinator"), join("evaluator")
    before, during = ([f"{when} {number}".encode() for number in range(50)] for when in ("before", "during"))
    coordinator.publish_all(farm.requests, before)
    published = threading.Event()

    def publish() -> None:
        coordinator.publish_all(farm.requests, during)
        published.set()

    publisher = threading.Thread(target=publish)
    with alarmed(node, alarm):
        publisher.start()
        assert not published.wait(1)
        coordinator.announce(b"says who is blocked")
        assert drain(evaluator, farm.requests, set(before)) == before  # consumers aren't blocked
    publisher.join(60)
    assert drain(evaluator, farm.requests, set(during)) == during
    assert evaluator.receive(farm.requests, 0.5) is None
    assert coordinator.counters.reconnects == evaluator.counters.reconnects == 0


def test_a_broker_that_isn_t_there_is_named_and_closing_doesn_t_wait_for_it() -> None:
    broker = RabbitBroker(BrokerAddress("127.0.0.1", free_port(), "nasfarm", "coordinator", "secret"), "nobody")
    with pytest.raises(BrokerUnreachableError, match=r"amqp://127\.0\.0\.1:\d+/nasfarm: not reached"):
        broker.connect(0.3)
    assert not broker.connected
    broker.close()


@pytest.mark.parametrize("poison", POISONS)
def test_a_message_that_cannot_be_decoded_becomes_a_dead_letter_and_those_behind_it_come(
    farm: RabbitFarm, join: Join, poison: str
) -> None:
    coordinator = join("coordinator")
    publish_poison(farm.address("evaluator"), "results", farm.results, POISONS[poison], b"poison")
    join("evaluator").publish(farm.results, b"after")
    first = coordinator.receive(farm.results, 30)
    assert first is not None and first.unreadable is not None
    assert read_results(coordinator, first) == ()
    second = coordinator.receive(farm.results, 30)
    assert second is not None and second.body == b"after"
    assert (coordinator.counters.rejected, coordinator.counters.reconnects) == (1, 0)
    assert coordinator.receive(farm.results, 0) is None
