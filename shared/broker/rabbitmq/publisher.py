"""Publishing over one connection after another, until the broker confirms."""

import logging
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import pika
from pika.exceptions import ChannelClosedByBroker

from shared.broker.errors import MessageTooLargeError
from shared.broker.protocol import BrokerCounters
from shared.broker.rabbitmq.headers import Headers
from shared.broker.rabbitmq.refusals import PRECONDITION_FAILED, channel_refusal, missing
from shared.failure_policy import REPUBLISH_SECONDS

logger = logging.getLogger(__name__)

PERSISTENT = 2


@dataclass(eq=False)
class Outgoing:
    """A message on its way. A queue's exchange is named by the queue's first word; rights are given by exchange.

    `sender` is our own user: the broker refuses a message that says another.
    """

    queue: str
    body: bytes
    identity: str
    sender: str
    headers: Headers
    confirmed: Future[None] = field(default_factory=Future)

    @property
    def exchange(self) -> str:
        return self.queue.partition(".")[0]

    @property
    def properties(self) -> pika.BasicProperties:
        """What goes with the message."""
        return pika.BasicProperties(
            content_type="application/json",
            delivery_mode=PERSISTENT,
            message_id=self.identity,
            user_id=self.sender,
            headers=self.headers,
        )

    def fail(self, error: BaseException) -> None:
        """Raise an error for whoever waits for the confirmation, unless that came already."""
        if not self.confirmed.done():
            self.confirmed.set_exception(error)


class Publisher:
    """What was not confirmed when a connection was lost goes out again on the next, first of all.

    `submit` may be called from any thread, all else runs on the connection's own.
    """

    def __init__(self, counters: BrokerCounters) -> None:
        self._counters = counters
        self._waiting: deque[Outgoing] = deque()
        self._unconfirmed: dict[int, Outgoing] = {}
        self._published = 0
        self._connection: Any = None
        self._channel: Any = None

    def submit(self, message: Outgoing) -> None:
        """Add a message to those that wait; `flush` sends them."""
        self._waiting.append(message)

    def attach(self, connection: Any) -> None:
        """Use a new connection."""
        self._connection = connection
        self._open()

    def flush(self) -> None:
        """Send what waits, if there is a channel for it."""
        while self._channel is not None and self._channel.is_open and self._waiting:
            message = self._waiting.popleft()
            if message.confirmed.done():  # its publisher has given up
                continue
            self._published += 1
            self._unconfirmed[self._published] = message
            self._channel.basic_publish(
                message.exchange, message.queue, message.body, message.properties, mandatory=True
            )

    def end(self, error: BaseException) -> None:
        """Nothing will be sent any more."""
        messages = [*self._unconfirmed.values(), *self._waiting]
        self._unconfirmed.clear()
        self._waiting.clear()
        for message in messages:
            message.fail(error)

    def _open(self) -> None:
        if self._connection.is_open:
            channel = self._connection.channel(on_open_callback=self._opened)
            channel.add_on_close_callback(self._closed)
            channel.add_on_return_callback(self._returned)

    def _opened(self, channel: Any) -> None:
        def confirming(_frame: Any) -> None:
            self._channel, self._published = channel, 0
            self.flush()

        channel.confirm_delivery(self._acked_or_nacked, callback=confirming)

    def _acked_or_nacked(self, frame: Any) -> None:
        answer = frame.method
        last = answer.delivery_tag
        tags = list(takewhile(lambda tag: tag <= last, self._unconfirmed)) if answer.multiple else [last]
        for tag in tags:
            message = self._unconfirmed.pop(tag, None)
            if message is None or message.confirmed.done():
                continue
            if isinstance(answer, pika.spec.Basic.Ack):
                self._counters.published += 1
                message.confirmed.set_result(None)
            else:  # its queue is full or can't store anything just now
                logger.warning("message %s for %s refused for now, trying again", message.identity, message.queue)
                self._waiting.append(message)
                self._connection.ioloop.call_later(REPUBLISH_SECONDS, self.flush)

    def _returned(self, _channel: Any, _method: Any, properties: Any, _body: bytes) -> None:
        for message in self._unconfirmed.values():
            if message.identity == properties.message_id:
                message.fail(missing(message.queue))

    def _closed(self, _channel: Any, reason: BaseException) -> None:
        unconfirmed = list(self._unconfirmed.values())
        self._channel = None
        self._unconfirmed.clear()
        if isinstance(reason, ChannelClosedByBroker):
            logger.warning("publishing interrupted by the broker: %s", reason.reply_text)
            self._fail_culprits(unconfirmed, reason)
            self._connection.ioloop.call_later(REPUBLISH_SECONDS, self._open)
        self._waiting.extendleft(reversed([message for message in unconfirmed if not message.confirmed.done()]))

    @staticmethod
    def _fail_culprits(unconfirmed: list[Outgoing], reason: ChannelClosedByBroker) -> None:
        """The broker doesn't say which message it closed the channel for, but names the exchange.

        Of messages that are too large the largest is one.
        """
        for message in unconfirmed:
            error = channel_refusal(reason, message.queue)
            if error is not None and f"'{message.exchange}'" in reason.reply_text:
                message.fail(error)
        if reason.reply_code == PRECONDITION_FAILED and "message size" in reason.reply_text and unconfirmed:
            largest = max(unconfirmed, key=lambda message: len(message.body))
            largest.fail(MessageTooLargeError(f"{largest.queue}: {reason.reply_text}; ask for less"))
