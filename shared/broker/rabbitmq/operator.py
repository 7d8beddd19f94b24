"""What an operator does at a farm's broker: adds and removes the queues of a super-network or a search, looks how full
they are, and asks a search to end."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError, ConnectionBlockedTimeout, NackError, UnroutableError

from shared.broker.address import BrokerAddress
from shared.broker.errors import BrokerError, BrokerUnreachableError, ExchangeMissingError, QueueMissingError
from shared.broker.protocol import DEAD_LETTERS, results_queue
from shared.broker.rabbitmq.client import parameters
from shared.broker.rabbitmq.headers import ANSWER_TO, SENT_AT, now
from shared.broker.rabbitmq.publisher import Outgoing
from shared.broker.rabbitmq.refusals import cause, channel_refusal, connection_refusal, unreached
from shared.broker.topology import CONTROL, queue_arguments
from shared.errors import first_line
from shared.failure_policy import COMMAND_ANSWER_SECONDS, COMMAND_BLOCKED_SECONDS
from shared.messages import StopSearch

NO_QUEUE = "no-queue"
"""A routing key to which no queue is bound."""
PROBE = b"x"
"""Not empty: a broker that is full stops to read after a message's header, so that it would take one without a body."""


@dataclass(frozen=True)
class QueueDepth:
    """How many messages wait in a queue, without those delivered and not settled, and how many consumers it has."""

    ready: int
    consumers: int


def add_queues(address: BrokerAddress, queue_names: Sequence[str]) -> None:
    """Declare queues of requests or results; those that are there stay as they are.

    Policies of the farm give them their limits. Raises BrokerError where the broker refuses or isn't reached.
    """

    def declare(channel: Any, name: str) -> None:
        channel.queue_declare(name, durable=True, arguments=queue_arguments(name))
        kind = name.partition(".")[0]
        channel.queue_bind(name, kind, routing_key=name)
        if kind == "results":
            channel.queue_bind(name, CONTROL, routing_key=name)
            channel.queue_bind(name, DEAD_LETTERS, arguments={"x-match": "all", ANSWER_TO: name})

    _for_each(address, queue_names, declare)


def remove_queues(address: BrokerAddress, queue_names: Sequence[str]) -> None:
    """Delete queues with all that is in them; one that isn't there is no error."""
    _for_each(address, queue_names, lambda channel, name: channel.queue_delete(name))


def queue_depths(address: BrokerAddress, queue_names: Iterable[str]) -> dict[str, QueueDepth | None]:
    """How full each queue is; None for one that isn't there. Raises BrokerError as `add_queues` does."""
    depths: dict[str, QueueDepth | None] = {}
    with _connected(address) as connection:
        for name in queue_names:
            try:
                found = connection.channel().queue_declare(name, passive=True).method
                depths[name] = QueueDepth(found.message_count, found.consumer_count)
            except AMQPError as error:
                refusal = _refusal(error, name)
                if not isinstance(refusal, QueueMissingError):
                    raise refusal from error
                depths[name] = None
    return depths


def request_stop(address: BrokerAddress, search: str) -> None:
    """Ask the coordinator of a search to end. Returns when the broker has confirmed the message.

    A broker whose memory or disk is full reads nothing from who publishes, until there is room again: what was sent
    would stop the search then. So something that no queue gets is sent first, and the message only if that is answered.

    Raises QueueMissingError for a search that the farm doesn't know, and BrokerError as `add_queues` does; it says
    whether the message was sent.
    """
    queue = results_queue(search)
    body = StopSearch(search=search).model_dump_json().encode()
    message = Outgoing(queue, body, uuid.uuid4().hex, address.user, {SENT_AT: now()})
    with _connected(address) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        sent = False
        try:
            channel.queue_bind(queue, CONTROL, routing_key=queue)  # an older release has added queues without
            with suppress(UnroutableError):
                channel.basic_publish(CONTROL, NO_QUEUE, PROBE, mandatory=True)
            sent = True
            channel.basic_publish(CONTROL, queue, body, message.properties, mandatory=True)
        except NackError as error:
            raise BrokerError(f"{search}: the broker takes no message for it just now; try again") from error
        except AMQPError as error:
            raise _not_stopped(error, search, sent) from error


def _not_stopped(error: AMQPError, search: str, sent: bool) -> BrokerError:
    """What is to be said of a search that wasn't asked to stop, as far as is known."""
    refusal = channel_refusal(error, results_queue(search))
    if isinstance(refusal, QueueMissingError) and not isinstance(refusal, ExchangeMissingError):
        return QueueMissingError(f"{search}: no search of this name is in the farm; look for its name")
    if refusal is not None:
        return refusal
    blocked = isinstance(error, ConnectionBlockedTimeout)
    why = "RabbitMQ takes nothing now, its memory or disk is full" if blocked else first_line(error)
    if sent:
        return BrokerError(
            f"{search}: {why}, and had not confirmed the message when that began; the search ends when it gets it, "
            "if it does: look with `nasfarm status`, and ask again if it still runs"
        )
    remedy = "make room there" if blocked else "check the broker"
    return BrokerError(f"{search}: not asked to stop, nothing was sent: {why}; {remedy}, then ask again")


def _for_each(address: BrokerAddress, queue_names: Sequence[str], act: Callable[[Any, str], None]) -> None:
    with _connected(address) as connection:
        channel = connection.channel()
        for name in queue_names:
            try:
                act(channel, name)
            except AMQPError as error:
                raise _refusal(error, name) from error


def _refusal(error: AMQPError, queue_name: str) -> BrokerError:
    return channel_refusal(error, queue_name) or BrokerError(f"{queue_name}: {first_line(error)}")


@contextmanager
def _connected(address: BrokerAddress) -> Iterator[pika.BlockingConnection]:
    try:
        connection = pika.BlockingConnection(
            parameters(
                address,
                "nasfarm operator",
                blocked_seconds=COMMAND_BLOCKED_SECONDS,
                connect_seconds=COMMAND_ANSWER_SECONDS,
            )
        )
    except (AMQPError, AMQPConnectorException, OSError) as error:
        reason = cause(error)
        raise connection_refusal(reason, address) or unreached(address, reason) from error
    try:
        yield connection
    except AMQPError as error:
        raise BrokerUnreachableError(f"{address}: the connection was lost ({first_line(error)}); try again") from error
    finally:
        if connection.is_open:
            with suppress(AMQPError):  # all that was asked is done by then
                connection.close()
