"""A farm elsewhere, behind RabbitMQ."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from shared.broker.address import BrokerAddress
from shared.broker.rabbitmq import RabbitBroker
from shared.failure_policy import REQUESTS_PREFETCH


@contextmanager
def connected_broker(
    address: BrokerAddress, command: str, prefetch: int = REQUESTS_PREFETCH, patient: bool = True
) -> Iterator[RabbitBroker]:
    """The farm's broker, connected; `command` is what its lists call us, `prefetch` how many messages of a queue may be
    unacknowledged at once. A service, which may be started before its broker, is `patient`.

    Raises BrokerError if the broker isn't reached or refuses.
    """
    with closing(RabbitBroker(address, f"nasfarm {command}", prefetch, patient=patient)) as broker:
        broker.connect()
        yield broker
