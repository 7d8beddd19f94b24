import threading

import pytest

from shared.broker import Broker, InProcessBroker


@pytest.fixture(params=[InProcessBroker])
def broker(request: pytest.FixtureRequest) -> Broker:
    made: Broker = request.param()
    return made


def test_messages_come_out_in_the_order_in_which_they_went_in(broker: Broker) -> None:
    for number in range(20):
        broker.publish("q", str(number).encode())
    received = [broker.receive("q", 1) for _ in range(20)]
    assert [delivery.body for delivery in received if delivery] == [str(number).encode() for number in range(20)]


def test_an_empty_queue_gives_nothing(broker: Broker) -> None:
    broker.publish("another", b"x")
    assert broker.receive("q", 0.01) is None


def test_a_waiting_consumer_gets_what_is_published_later(broker: Broker) -> None:
    received: list[bytes] = []

    def consume() -> None:
        delivery = broker.receive("q", 30)
        assert delivery is not None
        received.append(delivery.body)
        delivery.ack()

    consumer = threading.Thread(target=consume)
    consumer.start()
    broker.publish("q", b"late")
    consumer.join(30)
    assert received == [b"late"]


def test_several_consumers_share_the_messages_and_none_is_lost_or_doubled(broker: Broker) -> None:
    received: list[bytes] = []

    def consume() -> None:
        while (delivery := broker.receive("q", 0.2)) is not None:
            received.append(delivery.body)
            delivery.ack()

    consumers = [threading.Thread(target=consume) for _ in range(4)]
    for consumer in consumers:
        consumer.start()
    for number in range(200):
        broker.publish("q", str(number).encode())
    for consumer in consumers:
        consumer.join(30)
    assert sorted(received) == sorted(str(number).encode() for number in range(200))
