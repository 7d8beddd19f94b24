"""Each user may do what its service needs, and nothing else; strangers and unknown certificates are turned away."""

import dataclasses
import time
import urllib.error
from collections.abc import Iterator

import pytest

from shared.broker import DEAD_LETTERS, AccessRefusedError, BrokerError, QueueMissingError, requests_queue
from shared.broker.__main__ import main
from shared.broker.address import BrokerAddress
from shared.broker.rabbitmq import RabbitBroker, add_queues, remove_queues
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
        ("operator", RabbitFarm.results),
        ("operator", DEAD_LETTERS),
        ("monitoring", RabbitFarm.requests),
        ("monitoring", RabbitFarm.results),
        ("monitoring", DEAD_LETTERS),
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


@pytest.mark.parametrize("user", ["coordinator", "evaluator", "monitoring"])
def test_only_the_operator_adds_and_removes_queues(farm: RabbitFarm, user: str) -> None:
    with pytest.raises(AccessRefusedError):
        add_queues(farm.address(user), [requests_queue("other")])
    with pytest.raises(AccessRefusedError):
        remove_queues(farm.address(user), [farm.requests])


def test_the_operator_touches_nothing_but_queues_of_requests_and_results(farm: RabbitFarm) -> None:
    for act in (add_queues, remove_queues):
        with pytest.raises(AccessRefusedError):
            act(farm.address("operator"), [DEAD_LETTERS if act is remove_queues else "other.queue"])


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
        assert str(refused.value).startswith(f"amqp://{address.user}@127.0.0.1:")
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


def test_the_command_adds_and_removes_queues_and_shows_no_password(
    farm: RabbitFarm, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    credentials = tmp_path_factory.mktemp("credentials") / "operator"
    credentials.write_text(f"operator:{farm.node.passwords['operator']}\n")
    url = f"amqp://127.0.0.1:{farm.node.port}/{farm.vhost}"
    options = [url, "--credentials", str(credentials), "--supernet", "new", "--search", "two"]
    queue = f"/api/queues/{farm.vhost}/requests.new"
    assert main(["add", *options]) == main(["add", *options]) == 0
    while not (policy := farm.node.http("GET", queue).get("effective_policy_definition")):
        time.sleep(0.1)  # the management's numbers come some seconds later
    assert (policy["delivery-limit"], policy["dead-letter-strategy"]) == (3, "at-least-once")
    assert main(["remove", *options]) == main(["remove", *options]) == 0
    with pytest.raises(urllib.error.HTTPError, match="404"):
        farm.node.http("GET", queue)
    credentials.write_text("operator:wrong\n")
    assert main(["add", *options]) == 2
    output = capsys.readouterr()
    assert output.err.count("\n") == 1 and "wrong" not in output.err and not output.out
