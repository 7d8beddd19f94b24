"""Each user may do what its service needs, and nothing else; strangers and unknown certificates are turned away."""

import dataclasses
import time
import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest
from pika.exceptions import ChannelClosedByBroker

from shared.announcements import EvaluatorAnnouncement, SearchAnnouncement, SearchState
from shared.architecture import dense
from shared.broker import (
    ANNOUNCEMENTS,
    DEAD_LETTERS,
    AccessRefusedError,
    BrokerError,
    ExchangeMissingError,
    QueueMissingError,
    read_requests,
    read_results,
    requests_queue,
)
from shared.broker.address import BrokerAddress
from shared.broker.rabbitmq import RabbitBroker, add_queues, remove_queues, request_stop
from shared.broker.reading import UNSIGNED_VERSION
from shared.broker.topology import CONTROL, definitions
from shared.messages import REQUEST_VERSION, StopSearch
from tests.support.rabbitmq import Node, RabbitFarm, publish_as
from tests.support.searches import SHAPE, small_plan


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
        ("operator", ANNOUNCEMENTS),
        ("monitoring", RabbitFarm.requests),
        ("monitoring", RabbitFarm.results),
        ("monitoring", DEAD_LETTERS),
        ("monitoring", ANNOUNCEMENTS),
    ],
)
def test_no_user_publishes_what_is_another_service_s(
    brokers: dict[str, RabbitBroker], user: str, queue_name: str
) -> None:
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
def test_no_user_consumes_what_is_another_service_s(
    brokers: dict[str, RabbitBroker], user: str, queue_name: str
) -> None:
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
        return [record.message for record in caplog.records if "announcements are refused" in record.message]

    while not warnings():
        brokers[user].announce(b"x")
        time.sleep(0.05)
    for _ in range(5):
        brokers[user].announce(b"x")
        time.sleep(0.05)
    assert brokers[user].announced(60) == []
    assert len(warnings()) == 1 and "ACCESS_REFUSED" in warnings()[0]
    assert brokers[user].connected and brokers[user].counters.reconnects == 0


def announced_search(state: SearchState, requests: int = REQUEST_VERSION, name: str = "one") -> bytes:
    now = time.time()
    told = SearchAnnouncement(
        name=name, supernet="net", state=state, planned=9, measured=4, sent_at=now, requests=requests
    )
    return told.model_dump_json().encode()


def announced_evaluator(name: str, requests: int = REQUEST_VERSION) -> bytes:
    now = time.time()
    told = EvaluatorAnnouncement(
        name=name, supernet="net", device="cpu", state="idle", since=now, sent_at=now, requests=requests
    )
    return told.model_dump_json().encode()


def test_a_search_is_announced_by_its_coordinator_alone_and_an_evaluator_by_itself(
    farm: RabbitFarm, brokers: dict[str, RabbitBroker]
) -> None:
    def unsigned(user: str, body: bytes) -> None:
        publish_as(farm.address(user), ANNOUNCEMENTS, ANNOUNCEMENTS, body, message_id=uuid.uuid4().hex)

    def said(user: str, body: bytes) -> None:
        as_whom = {"message_id": uuid.uuid4().hex, "user_id": user}
        publish_as(farm.address(user), ANNOUNCEMENTS, ANNOUNCEMENTS, body, **as_whom)

    believed = [
        announced_search("searching"),
        announced_evaluator("mine"),
        announced_search("searching", UNSIGNED_VERSION, "of-the-release-before"),
        announced_evaluator("of-the-release-before", UNSIGNED_VERSION),
    ]
    said("coordinator", believed[0])
    said("evaluator", believed[1])
    unsigned("coordinator", believed[2])
    unsigned("evaluator", believed[3])
    for requests in (REQUEST_VERSION, UNSIGNED_VERSION):
        said("evaluator", announced_search("finished", requests))
        unsigned("evaluator", announced_search("finished", requests))
        said("coordinator", announced_evaluator("another's", requests))
    unsigned("evaluator", announced_evaluator("nobody's"))
    believed.append(announced_evaluator("last"))
    said("evaluator", believed[-1])
    operator, deadline = brokers["operator"], time.monotonic() + 60
    while believed[-1] not in (heard := operator.announced(60)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert heard == believed and operator.counters.skipped == 7


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


REQUEST = small_plan().request(dense(SHAPE), "search").model_dump_json().encode()
STOP = StopSearch(search="one").model_dump_json().encode()
WAYS = {
    "by the exchange of results": ("results", {}),
    "by the exchange of results, with another queue's name in a copy": ("results", {"CC": [RabbitFarm.requests]}),
    "by the exchange of dead letters": ("dead-letters", {"answer-to": RabbitFarm.requests}),
    "by the exchange of dead letters, to a search": ("dead-letters", {"answer-to": RabbitFarm.results}),
}


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_an_evaluator_asks_nothing_of_other_evaluators_and_stops_no_search(
    farm: RabbitFarm, brokers: dict[str, RabbitBroker], way: str, signed: bool
) -> None:
    exchange, headers = WAYS[way]
    as_whom = {"user_id": "evaluator"} if signed else {}
    for body in (REQUEST, STOP):
        publish_as(farm.address("evaluator"), exchange, farm.results, body, headers=headers, **as_whom)
    brokers["evaluator"].publish(farm.results, b"the last")
    assert brokers["evaluator"].receive(farm.requests, 0.5) is None
    coordinator = brokers["coordinator"]
    while True:
        delivery = coordinator.receive(farm.results, 30)
        assert delivery is not None
        if delivery.body == b"the last":
            break
        assert delivery.sender == ("evaluator" if signed else "")
        assert read_results(coordinator, delivery) == ()
    delivery.ack()
    assert coordinator.receive(farm.results, 0.5) is None  # what it put aside told nobody


@pytest.mark.parametrize("exchange", ["requests", "control", "", "amq.direct", "amq.fanout", "amq.topic"])
def test_the_broker_refuses_what_an_evaluator_publishes_elsewhere(farm: RabbitFarm, exchange: str) -> None:
    with pytest.raises(ChannelClosedByBroker, match="ACCESS_REFUSED"):
        publish_as(farm.address("evaluator"), exchange, farm.requests, REQUEST, user_id="evaluator")


@pytest.mark.parametrize("user", ["coordinator", "operator", "administrator"])
def test_the_broker_refuses_a_message_that_says_another_user_than_its_sender(farm: RabbitFarm, user: str) -> None:
    with pytest.raises(ChannelClosedByBroker, match="PRECONDITION_FAILED - user_id"):
        publish_as(farm.address("evaluator"), "results", farm.results, STOP, user_id=user)


def test_what_is_in_the_queue_of_requests_is_answered_only_if_a_coordinator_put_it_there(
    farm: RabbitFarm, brokers: dict[str, RabbitBroker]
) -> None:
    evaluator = brokers["evaluator"]
    publish_as(farm.address("coordinator"), "requests", farm.requests, REQUEST)  # which says nobody
    brokers["coordinator"].publish(farm.requests, REQUEST)
    forged = evaluator.receive(farm.requests, 30)
    assert forged is not None and read_requests(evaluator, forged) == ()
    real = evaluator.receive(farm.requests, 30)
    assert real is not None and read_requests(evaluator, real) != ()
    real.ack()


def test_a_farm_of_an_older_release_is_as_safe_with_the_new_definitions(node: Node) -> None:
    """Exchanges, queues and bindings stay when definitions are loaded that don't have them."""
    vhost = f"old-{uuid.uuid4().hex[:8]}"
    held = definitions(node.passwords, vhost)
    del held["users"]
    former = {**held, "exchanges": [each for each in held["exchanges"] if each["name"] != CONTROL]}
    former["permissions"] = [
        {**each, "write": r"^((requests|results)\..*|results)$"} if each["user"] == "operator" else each
        for each in held["permissions"]
    ]
    node.http("POST", "/api/definitions", former)
    old = RabbitFarm(node, vhost)
    old_requests = requests_queue("net", 1)
    arguments = {"x-queue-type": "quorum"}
    for name, exchange in ((old_requests, "requests"), (old.results, "results")):
        node.http("PUT", f"/api/queues/{vhost}/{name}", {"durable": True, "arguments": arguments})
        node.http("POST", f"/api/bindings/{vhost}/e/{exchange}/q/{name}", {"routing_key": name})
        told = {"arguments": {"x-match": "all", "answer-to": name}}
        node.http("POST", f"/api/bindings/{vhost}/e/dead-letters/q/{name}", told)
    with pytest.raises(ExchangeMissingError, match=r"lacks what this release needs .*load the definitions"):
        request_stop(old.address("operator"), "one")

    node.http("POST", "/api/definitions", held)
    request_stop(old.address("operator"), "one")  # of a search whose queue was not added again yet
    add_queues(old.address("operator"), [old.requests, old.results])
    for queue in (old_requests, old.requests):
        publish_as(old.address("evaluator"), "dead-letters", "", REQUEST, headers={"answer-to": queue})
    publish_as(old.address("evaluator"), "results", old.results, STOP)
    with closing(RabbitBroker(old.address("evaluator"), "evaluator")) as evaluator:
        assert evaluator.receive(old.requests, 0.5) is None
    with closing(RabbitBroker(old.address("coordinator"), "coordinator")) as coordinator:
        asked = coordinator.receive(old.results, 30)
        assert asked is not None and read_results(coordinator, asked) == (StopSearch(search="one"),)
        asked.ack()
        forged = coordinator.receive(old.results, 30)
        assert forged is not None and read_results(coordinator, forged) == ()


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


def test_publishing_to_a_queue_that_was_not_added_says_so(brokers: dict[str, RabbitBroker]) -> None:
    with pytest.raises(QueueMissingError, match=r"requests\.other\.v5: the broker has no such queue"):
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
