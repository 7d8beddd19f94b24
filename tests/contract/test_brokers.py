"""What every broker does: the one in the process, and RabbitMQ."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from shared.architecture import dense
from shared.broker import (
    DEAD_LETTERS,
    MAX_MESSAGE_BYTES,
    Broker,
    BrokerClosedError,
    InProcessBroker,
    MessageTooLargeError,
    read_requests,
    read_results,
    results_queue,
)
from shared.broker.rabbitmq import RabbitBroker
from shared.broker.topology import CONTROL
from shared.failure_policy import DELIVERY_LIMIT
from shared.messages import EvaluationResult, Failure, StopSearch
from tests.support.rabbitmq import Node, RabbitFarm, publish_as
from tests.support.searches import SHAPE, small_plan

REQUESTS, RESULTS = RabbitFarm.requests, RabbitFarm.results

Join = Callable[[str], Broker]
"""A user's broker: coordinator, evaluator or operator."""
Stop = Callable[[str], None]
"""Has an operator put a request to stop a search into the queue RESULTS, whichever search that is."""


@pytest.fixture(params=["in process", "RabbitMQ"])
def join(request: pytest.FixtureRequest) -> Iterator[Join]:
    joined: list[Broker] = []
    if request.param == "in process":
        broker = InProcessBroker()
        joined.append(broker)
        yield lambda user: broker
    else:
        node: Node = request.getfixturevalue("node")
        farm = node.farm()

        def join(user: str) -> Broker:
            joined.append(RabbitBroker(farm.address(user), f"contract {user}"))
            return joined[-1]

        yield join
    for each in joined:
        each.close()


@pytest.fixture
def ask_to_stop(join: Join, request: pytest.FixtureRequest) -> Stop:
    operator = join("operator")

    def ask(search: str) -> None:
        body = StopSearch(search=search).model_dump_json().encode()
        if isinstance(operator, RabbitBroker):  # which publishes to no exchange but that of the queue
            publish_as(operator._address, CONTROL, RESULTS, body, user_id="operator")
        else:
            operator.publish(RESULTS, body)

    return ask


def request_body() -> bytes:
    return small_plan().request(dense(SHAPE), "search").model_dump_json().encode()


def test_messages_come_out_in_the_order_in_which_they_went_in(join: Join) -> None:
    coordinator, evaluator = join("coordinator"), join("evaluator")
    bodies = [str(number).encode() for number in range(20)]
    for body in bodies:
        coordinator.publish(REQUESTS, body)
    for body in bodies:
        delivery = evaluator.receive(REQUESTS, 30)
        assert delivery is not None and (delivery.body, delivery.attempt, delivery.dead) == (body, 1, None)
        delivery.ack()
    assert coordinator.counters.published == evaluator.counters.received == 20
    assert evaluator.counters.redelivered == 0


def test_an_empty_queue_gives_nothing(join: Join) -> None:
    join("coordinator").publish(REQUESTS, b"x")
    assert join("coordinator").receive(RESULTS, 0.01) is None


def test_a_waiting_consumer_gets_what_is_published_later(join: Join) -> None:
    evaluator, received = join("evaluator"), list[bytes]()

    def consume() -> None:
        delivery = evaluator.receive(REQUESTS, 30)
        assert delivery is not None
        received.append(delivery.body)
        delivery.ack()

    consumer = threading.Thread(target=consume)
    consumer.start()
    join("coordinator").publish(REQUESTS, b"late")
    consumer.join(30)
    assert received == [b"late"]


def test_several_consumers_share_the_messages_and_none_is_lost_or_doubled(join: Join) -> None:
    received: list[bytes] = []
    done = threading.Event()

    def consume(evaluator: Broker) -> None:
        while not done.is_set():
            delivery = evaluator.receive(REQUESTS, 0.05)
            if delivery is not None:
                received.append(delivery.body)
                delivery.ack()
                if len(received) >= 100:
                    done.set()

    consumers = [threading.Thread(target=consume, args=(join("evaluator"),)) for _ in range(4)]
    for consumer in consumers:
        consumer.start()
    coordinator = join("coordinator")
    bodies = [str(number).encode() for number in range(100)]
    for body in bodies:
        coordinator.publish(REQUESTS, body)
    for consumer in consumers:
        consumer.join(60)
    assert sorted(received) == sorted(bodies)


def test_what_is_given_back_comes_again_as_the_same_message(join: Join) -> None:
    join("coordinator").publish(REQUESTS, b"x")
    evaluator = join("evaluator")
    first = evaluator.receive(REQUESTS, 30)
    assert first is not None
    first.requeue()
    again = evaluator.receive(REQUESTS, 30)
    assert again is not None
    again.ack()
    assert (again.body, again.identity, again.attempt) == (b"x", first.identity, 2)
    assert evaluator.counters.redelivered == 1


def test_a_delivery_can_be_settled_only_once(join: Join) -> None:
    coordinator, evaluator = join("coordinator"), join("evaluator")
    for body in (b"1", b"2"):
        coordinator.publish(REQUESTS, body)
        delivery = evaluator.receive(REQUESTS, 30)
        assert delivery is not None and delivery.body == body
        delivery.ack()
        delivery.ack()
        delivery.requeue()
    assert evaluator.receive(REQUESTS, 0.2) is None


def test_what_comes_back_too_often_becomes_a_dead_letter_that_its_sender_reads_as_a_crash(join: Join) -> None:
    coordinator, evaluator = join("coordinator"), join("evaluator")
    coordinator.publish(REQUESTS, request_body(), answer_to=RESULTS)
    for attempt in range(1, DELIVERY_LIMIT + 2):
        delivery = evaluator.receive(REQUESTS, 30)
        assert delivery is not None and delivery.attempt == attempt
        delivery.requeue()
    dead = coordinator.receive(RESULTS, 30)
    assert dead is not None and dead.dead == "delivery_limit"
    (result,) = read_results(coordinator, dead)
    assert isinstance(result, EvaluationResult) and isinstance(result.outcome, Failure)
    assert result.outcome.kind == "dead_lettered"
    dead.ack()
    kept = join("operator").receive(DEAD_LETTERS, 30)
    assert kept is not None and kept.body == request_body()
    kept.ack()
    assert evaluator.receive(REQUESTS, 0.2) is None


def test_what_can_t_be_read_is_rejected_with_its_reason_and_the_next_message_is_read(join: Join) -> None:
    coordinator, evaluator = join("coordinator"), join("evaluator")
    coordinator.publish(REQUESTS, b'{"version": 7}', answer_to=RESULTS)
    coordinator.publish(REQUESTS, request_body(), answer_to=RESULTS)
    bad = evaluator.receive(REQUESTS, 30)
    assert bad is not None and read_requests(evaluator, bad) == ()
    good = evaluator.receive(REQUESTS, 30)
    assert good is not None and read_requests(evaluator, good) != ()
    good.ack()
    kept = join("operator").receive(DEAD_LETTERS, 30)
    assert kept is not None and kept.body == b'{"version": 7}'
    assert kept.dead == "unknown version: this nasfarm reads version 5, not 7"
    kept.ack()
    told = coordinator.receive(RESULTS, 30)
    assert told is not None and told.dead == kept.dead and read_results(coordinator, told) == ()
    assert evaluator.counters.rejected == 1


def test_after_stop_receiving_messages_stay_for_others_until_it_is_asked_again(join: Join) -> None:
    coordinator, leaving = join("coordinator"), join("evaluator")
    coordinator.publish(REQUESTS, b"1")
    coordinator.publish(REQUESTS, b"2")
    last = leaving.receive(REQUESTS, 30)
    assert last is not None
    leaving.stop_receiving(REQUESTS)
    last.ack()
    staying = join("evaluator")
    other = staying.receive(REQUESTS, 30)
    assert other is not None and (other.body, other.attempt) == (b"2", 1)
    other.ack()
    staying.stop_receiving(REQUESTS)
    coordinator.publish(REQUESTS, b"3")
    back = leaving.receive(REQUESTS, 30)
    assert back is not None and back.body == b"3"
    back.ack()


def test_many_messages_are_published_at_once_in_their_order(join: Join) -> None:
    coordinator, evaluator = join("coordinator"), join("evaluator")
    bodies = [str(number).encode() for number in range(300)]
    coordinator.publish_all(REQUESTS, [])
    coordinator.publish_all(REQUESTS, bodies, answer_to=RESULTS)
    assert coordinator.counters.published == 300
    for body in bodies:
        delivery = evaluator.receive(REQUESTS, 30)
        assert delivery is not None and delivery.body == body
        delivery.ack()


def test_a_message_says_when_it_was_published_even_as_a_dead_letter(join: Join) -> None:
    coordinator, evaluator, operator = join("coordinator"), join("evaluator"), join("operator")
    before = time.time()
    coordinator.publish(REQUESTS, b"1", answer_to=RESULTS)
    after = time.time()
    delivery = evaluator.receive(REQUESTS, 30)
    assert delivery is not None and delivery.sent_at is not None
    assert before - 0.001 <= delivery.sent_at <= after + 0.001  # told in milliseconds
    delivery.reject("a test")
    for broker, queue_name in ((coordinator, RESULTS), (operator, DEAD_LETTERS)):
        dead = broker.receive(queue_name, 30)
        assert dead is not None and (dead.dead, dead.sent_at) == ("a test", delivery.sent_at)
        dead.ack()


def test_a_search_can_be_asked_to_stop_and_a_request_for_another_is_rejected(join: Join, ask_to_stop: Stop) -> None:
    coordinator = join("coordinator")
    for search in ("one", "two"):
        ask_to_stop(search)
    stop = coordinator.receive(RESULTS, 30)
    assert results_queue("one") == RESULTS
    assert stop is not None and read_results(coordinator, stop) == (StopSearch(search="one"),)
    stop.ack()
    misplaced = coordinator.receive(RESULTS, 30)
    assert misplaced is not None and read_results(coordinator, misplaced) == ()
    kept = join("operator").receive(DEAD_LETTERS, 30)
    assert kept is not None and kept.dead == "misplaced: a request to stop another search"
    kept.ack()


def heard(broker: Broker, last: bytes) -> list[bytes]:
    """What was announced, once `last` is heard."""
    deadline = time.monotonic() + 60
    while last not in (bodies := broker.announced(60)):
        assert time.monotonic() < deadline, f"{last!r} was not heard"
        time.sleep(0.02)
    return bodies


def test_everybody_hears_what_is_announced_even_who_listens_later(join: Join) -> None:
    coordinator, evaluator = join("coordinator"), join("evaluator")
    for broker in (coordinator, evaluator):
        broker.publish(REQUESTS if broker is coordinator else RESULTS, b"x")  # then it is connected
    bodies = [str(number).encode() for number in range(10)]
    for body in bodies:
        evaluator.announce(body)
    assert heard(coordinator, bodies[-1]) == bodies
    coordinator.announce(b"later")
    assert heard(coordinator, b"later") == [*bodies, b"later"]
    for user in ("operator", "monitoring", "coordinator"):
        assert join(user).announced(60) == [*bodies, b"later"]
    assert coordinator.announced(0) == []


def test_a_message_that_is_too_large_is_refused_and_what_was_to_go_with_it_too(join: Join) -> None:
    coordinator, large = join("coordinator"), bytes(MAX_MESSAGE_BYTES + 1)
    for publish in (
        lambda: coordinator.publish(REQUESTS, large),
        lambda: coordinator.publish_all(REQUESTS, [b"x", large]),
        lambda: coordinator.announce(large),
    ):
        with pytest.raises(MessageTooLargeError, match="8,388,608 are the most"):
            publish()
    assert coordinator.counters.published == 0
    assert join("evaluator").receive(REQUESTS, 0.2) is None


def test_the_largest_message_goes_through(join: Join) -> None:
    join("coordinator").publish(REQUESTS, bytes(MAX_MESSAGE_BYTES))
    delivery = join("evaluator").receive(REQUESTS, 60)
    assert delivery is not None and len(delivery.body) == MAX_MESSAGE_BYTES
    delivery.ack()


def test_closing_ends_all_waiting(join: Join) -> None:
    evaluator, ends = join("evaluator"), list[BaseException]()

    def wait() -> None:
        try:
            evaluator.receive(REQUESTS, 60)
        except BrokerClosedError as error:
            ends.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    evaluator.close()
    waiting.join(30)
    assert len(ends) == 1 and not evaluator.connected
    for use in (lambda: evaluator.publish(RESULTS, b"x"), lambda: evaluator.announced(60)):
        with pytest.raises(BrokerClosedError):
            use()
    evaluator.announce(b"nobody hears this")
