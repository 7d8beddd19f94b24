"""A farm elsewhere: evaluators that are processes of their own, behind RabbitMQ."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shared.broker import Broker
from shared.broker.address import BrokerAddress
from shared.broker.rabbitmq import RabbitBroker

CONNECT_SECONDS = 30


@contextmanager
def remote_farm(address: BrokerAddress, search: str) -> Iterator[tuple[Broker, Callable[[], None]]]:
    """The farm's broker, connected, and a check that finds nothing: evaluators that are lost may be replaced any time.

    Raises BrokerError if the broker isn't reached or refuses.
    """
    broker = RabbitBroker(address, f"nasfarm search {search}")
    try:
        broker.connect(CONNECT_SECONDS)
        yield broker, lambda: None
    finally:
        broker.close()
