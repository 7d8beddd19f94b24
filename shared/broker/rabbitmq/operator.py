"""What an operator does at a farm's broker: adds the queues of a super-network or a search, and removes them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pika
from pika.exceptions import AMQPError

from shared.broker.address import BrokerAddress
from shared.broker.errors import BrokerError, BrokerUnreachableError
from shared.broker.protocol import DEAD_LETTERS
from shared.broker.rabbitmq.client import parameters
from shared.broker.rabbitmq.consumer import ANSWER_TO
from shared.broker.rabbitmq.refusals import cause, channel_refusal, connection_refusal
from shared.broker.topology import QUEUE_ARGUMENTS
from shared.errors import first_line


def add_queues(address: BrokerAddress, queue_names: Sequence[str]) -> None:
    """Declare queues of requests or results; those that are there stay as they are.

    Policies of the farm give them their limits. Raises BrokerError where the broker refuses or isn't reached.
    """

    def declare(channel: Any, name: str) -> None:
        channel.queue_declare(name, durable=True, arguments=QUEUE_ARGUMENTS)
        channel.queue_bind(name, name.partition(".")[0], routing_key=name)
        channel.queue_bind(name, DEAD_LETTERS, arguments={"x-match": "all", ANSWER_TO: name})

    _for_each(address, queue_names, declare)


def remove_queues(address: BrokerAddress, queue_names: Sequence[str]) -> None:
    """Delete queues with all that is in them; one that isn't there is none the less gone."""
    _for_each(address, queue_names, lambda channel, name: channel.queue_delete(name))


def _for_each(address: BrokerAddress, queue_names: Sequence[str], act: Callable[[Any, str], None]) -> None:
    with _channel(address) as channel:
        for name in queue_names:
            try:
                act(channel, name)
            except AMQPError as error:
                raise channel_refusal(error, name) or BrokerError(f"{name}: {first_line(error)}") from error


@contextmanager
def _channel(address: BrokerAddress) -> Iterator[Any]:
    try:
        connection = pika.BlockingConnection(parameters(address, "nasfarm operator"))
    except (AMQPError, OSError) as error:
        reason = cause(error)
        raise connection_refusal(reason, address) or BrokerUnreachableError(
            f"{address}: not reached ({first_line(reason)}); start the broker, or mend the address"
        ) from error
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()
