"""Each user may do what its service needs, and nothing else; strangers and unknown certificates are turned away."""

import dataclasses
import time
from collections.abc import Iterator

import pytest

from shared.broker import (
    ANNOUNCEMENTS,
    DEAD_LETTERS,
    AccessRefusedError,
    BrokerError,
    QueueMissingError,
    requests_queue,
)
from shared.broker.address import BrokerAddress
from shared.broker.rabbitmq import RabbitBroker, add_queues, remove_queues, request_stop
from tests.support.rabbitmq import Node, RabbitFarm


@pytest.fixture
def farm(node: Node) -> RabbitFarm:
    return node.farm()


@pytest.fixture
def brokers(farm: RabbitFarm) -> Iterator[dict[str, RabbitBroker]]:
    users = ("coordinator", "evaluator", "monitoring", "operator")
    brokers = {user: RabbitBroker(farm.address(user), user) for user in users}
    yield brokers
    for broker in brokers.values():
        broker.close()


@pytest.mark.parametrize(
    ("user", "queue_name"),
    [
        ("coordinator", RabbitFarm.results),
        ("evaluator", RabbitFarm.requests),
        ("operator", RabbitFarm.requests),
        ("operator", DEAD_LETTERS),
        ("operator", ANNOUNCEMENTS),
        ("monitoring", RabbitFarm.requests),
        ("monitoring", RabbitFarm.results),
        ("monitoring", DEAD_LETTERS),
        ("monitoring", ANNOUNCEMENTS),
    ],
)
def test_nobody_publishes_what_isn_t_theirs(brokers: dict[str, RabbitBroker], user: str, queue_name: str) -> None:
    with pytest.raises(AccessRefusedError, match=f"{queue_name}: the broker refuses"):
        brokers[user].publish(queue_name, b"x")


@pytest.mark.parametrize(
    ("user", "queue_name"),
    [
        ("coordinator", RabbitFarm.requests),
        ("coordinator", DEAD_LETTERS),
        ("evaluator", RabbitFarm.results),
        ("evaluator", DEAD_LETTERS),
        ("monitoring", RabbitFarm.requests),
        ("monitoring", RabbitFarm.results),
        ("monitoring", DEAD_LETTERS),
    ],
)
def test_nobody_reads_what_isn_t_theirs(brokers: dict[str, RabbitBroker], user: str, queue_name: str) -> None:
    with pytest.raises(AccessRefusedError, match=f"{queue_name}: the broker refuses"):
        brokers[user].receive(queue_name, 30)


def test_an_evaluator_doesn_t_hear_what_is_announced(brokers: dict[str, RabbitBroker]) -> None:
    for _ in range(2):
        with pytest.raises(AccessRefusedError, match="announcements: the broker refuses"):
            brokers["evaluator"].announced(60)


@pytest.mark.parametrize("user", ["operator", "monitoring"])
def test_what_is_announced_without_the_right_to_is_lost_with_one_warning_and_harms_nothing(
    brokers: dict[str, RabbitBroker], user: str, caplog: pytest.LogCaptureFixture
) -> None:
    brokers[user].connect(30)

    def warnings() -> list[str]:
        return [record.message for record in caplog.records if "nobody hears" in record.message]

    while not warnings():
        brokers[user].announce(b"x")
        time.sleep(0.05)
    for _ in range(5):
        brokers[user].announce(b"x")
        time.sleep(0.05)
    assert brokers[user].announced(60) == []
    assert len(warnings()) == 1 and "ACCESS_REFUSED" in warnings()[0]
    assert brokers[user].connected and brokers[user].counters.reconnects == 0


@pytest.mark.parametrize("user", ["coordinator", "evaluator", "monitoring"])
def test_only_the_operator_adds_and_removes_queues(farm: RabbitFarm, user: str) -> None:
    with pytest.raises(AccessRefusedError):
        add_queues(farm.address(user), [requests_queue("other")])
    with pytest.raises(AccessRefusedError):
        remove_queues(farm.address(user), [farm.requests])


def test_the_operator_adds_and_removes_nothing_but_the_farm_s_queues(farm: RabbitFarm) -> None:
    for act in (add_queues, remove_queues):
        for name in ("other.queue", ANNOUNCEMENTS, "requests"):
            with pytest.raises(AccessRefusedError):
                act(farm.address("operator"), [name])


def test_monitoring_stops_no_search(farm: RabbitFarm) -> None:
    with pytest.raises(AccessRefusedError, match=r"results\.one: the broker refuses"):
        request_stop(farm.address("monitoring"), "one")


def test_a_refusal_harms_nothing_else_that_goes_on(farm: RabbitFarm, brokers: dict[str, RabbitBroker]) -> None:
    with pytest.raises(AccessRefusedError):
        brokers["evaluator"].publish(farm.requests, b"forbidden")
    with pytest.raises(QueueMissingError, match=r"requests\.other"):
        brokers["evaluator"].receive("requests.other", 30)
    brokers["coordinator"].publish(farm.requests, b"x")
    delivery = brokers["evaluator"].receive(farm.requests, 30)
    assert delivery is not None and delivery.body == b"x"
    brokers["evaluator"].publish(farm.results, b"y")
    delivery.ack()


def test_publishing_to_a_queue_that_nobody_added_says_so(brokers: dict[str, RabbitBroker]) -> None:
    with pytest.raises(QueueMissingError, match=r"requests\.other: the broker has no such queue"):
        brokers["coordinator"].publish(requests_queue("other"), b"x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"password": "wrong"}, "refuses this user or password"),
        ({"user": "guest", "password": "guest"}, "refuses this user or password"),
        ({"vhost": "/"}, "no such vhost"),
        ({"vhost": "nasfarm-2"}, "no such vhost"),
    ],
)
def test_strangers_are_turned_away_at_once(farm: RabbitFarm, change: dict[str, str], message: str) -> None:
    address = dataclasses.replace(farm.address("coordinator"), **change)
    broker = RabbitBroker(address, "stranger")
    try:
        with pytest.raises(AccessRefusedError, match=message) as refused:
            broker.connect(30)
        assert str(refused.value).startswith("amqp://127.0.0.1:")
        with pytest.raises(AccessRefusedError):
            broker.publish(farm.requests, b"x")
    finally:
        broker.close()


def over_tls(node: Node, farm: RabbitFarm, host: str, trusted: bool = True) -> BrokerAddress:
    url = f"amqps://coordinator:{'coordinator%27s%20secret'}@{host}:{node.tls_port}/{farm.vhost}"
    return BrokerAddress.parse(url, authority=node.authority if trusted else None)


def test_messages_go_over_tls(node: Node, farm: RabbitFarm, brokers: dict[str, RabbitBroker]) -> None:
    broker = RabbitBroker(over_tls(node, farm, "localhost"), "tls")
    try:
        broker.publish(farm.requests, b"x")
        delivery = brokers["evaluator"].receive(farm.requests, 30)
        assert delivery is not None and delivery.body == b"x"
        delivery.ack()
    finally:
        broker.close()


@pytest.mark.parametrize(("host", "trusted"), [("localhost", False), ("127.0.0.1", True)])
def test_a_certificate_of_a_stranger_or_for_another_host_is_refused(
    node: Node, farm: RabbitFarm, host: str, trusted: bool
) -> None:
    broker = RabbitBroker(over_tls(node, farm, host, trusted), "tls")
    try:
        with pytest.raises(AccessRefusedError, match="certificate isn't trusted"):
            broker.connect(30)
    finally:
        broker.close()


def test_tls_with_a_port_that_speaks_in_the_clear_is_explained(node: Node, farm: RabbitFarm) -> None:
    address = dataclasses.replace(over_tls(node, farm, "localhost"), port=node.port)
    broker = RabbitBroker(address, "tls")
    try:
        with pytest.raises(BrokerError, match="doesn't speak TLS"):
            broker.connect(30)
    finally:
        broker.close()
