"""Consuming one queue over one connection after another."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from shared.broker.protocol import BrokerCounters, Delivery
from shared.broker.rabbitmq.decoding import unreadable
from shared.broker.rabbitmq.headers import ANSWER_TO, REASON, SENT_AT, Headers, sent_at
from shared.broker.rabbitmq.refusals import channel_refusal
from shared.failure_policy import REOPEN_SECONDS

logger = logging.getLogger(__name__)


class Consumer:
    """A channel of its own for each queue: what the broker closes for one queue doesn't harm another.

    `take` and what a delivery offers may be called from any thread, all else runs on the connection's own. The broker
    counts in `x-delivery-count` how often a message came back.

    Args:
        queue: the queue's name.
        prefetch: how many messages may be delivered and not settled.
        counters: where deliveries are counted.
        run: runs something on the connection's thread; False where there is no connection.
        dead_letter: publishes a dead letter, from (queue, body, identity, headers).
    """

    def __init__(
        self,
        queue: str,
        prefetch: int,
        counters: BrokerCounters,
        run: Callable[[Callable[[], None]], bool],
        dead_letter: Callable[[str, bytes, str, Headers], None],
    ) -> None:
        self.wanted = False
        self._queue, self._prefetch, self._counters = queue, prefetch, counters
        self._run, self._dead_letter = run, dead_letter
        self._ready: deque[Delivery] = deque()
        self._error: BaseException | None = None
        self._final = False
        self._changed = threading.Condition()
        self._connection: Any = None
        self._channel: Any = None
        self._tag: str | None = None

    def take(self, timeout_seconds: float) -> Delivery | None:
        """The next message, or None if none comes in time. Raises what is wrong with the queue."""
        if not self.wanted:
            self.wanted = True
            self._run(self._open)
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._error, timeout_seconds)
            if self._error is not None:
                error = self._error
                if not self._final:
                    self._error, self.wanted = None, False
                raise error
            if not self._ready:
                return None
            delivery = self._ready.popleft()
        self._counters.received += 1
        self._counters.redelivered += delivery.attempt > 1
        return delivery

    def attach(self, connection: Any) -> None:
        """Use a connection, if it is a new one."""
        if connection is not self._connection:
            self._connection, self._channel, self._tag = connection, None, None
            self._open()

    def stop(self) -> None:
        """Cancel at the broker; requeue what was delivered and not yet asked for."""
        if self._channel is not None and self._channel.is_open and self._tag is not None:
            self._channel.basic_cancel(self._tag)
            self._tag = None
        with self._changed:
            unclaimed = list(self._ready)
            self._ready.clear()
        for delivery in unclaimed:
            delivery.requeue()

    def end(self, error: BaseException) -> None:
        """Nothing will come any more: `take` raises the error from now on."""
        self._fail(error, final=True)

    def _fail(self, error: BaseException, final: bool = False) -> None:
        with self._changed:
            self._error, self._final = error, final
            self._ready.clear()
            self._changed.notify_all()

    def _open(self) -> None:
        if not self.wanted or self._connection is None or not self._connection.is_open:
            return
        if self._channel is None:
            self._channel = self._connection.channel(on_open_callback=self._opened)
            self._channel.add_on_close_callback(self._closed)
            self._channel.add_on_cancel_callback(self._cancelled)
        elif self._channel.is_open and self._tag is None:
            self._consume()

    def _opened(self, channel: Any) -> None:
        channel.basic_qos(prefetch_count=self._prefetch)
        if self.wanted and self._tag is None:
            self._consume()

    def _consume(self) -> None:
        # A tag of its own for each try: pika throws away what still comes under a cancelled one.
        self._tag = self._channel.basic_consume(self._queue, self._delivered)

    def _delivered(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        delivery = self._delivery(channel, method, properties, body)
        with self._changed:
            self._ready.append(delivery)
            self._changed.notify_all()

    def _cancelled(self, _frame: Any) -> None:
        """The queue was deleted or moved. A channel closed by us is opened again, and then the broker says more."""
        logger.warning("%s: consumer cancelled by the broker", self._queue)
        if self._channel is not None and self._channel.is_open:
            self._channel.close()

    def _closed(self, channel: Any, reason: BaseException) -> None:
        """What was delivered on this channel is void: the broker delivers it again."""
        if channel is not self._channel:
            return
        self._channel, self._tag = None, None
        with self._changed:
            self._ready.clear()
        error = channel_refusal(reason, self._queue)
        if error is not None:
            self._fail(error)
        elif self._connection.is_open:
            logger.warning("%s: channel closed: %s", self._queue, reason)
            self._connection.ioloop.call_later(REOPEN_SECONDS, self._open)

    def _delivery(self, channel: Any, method: Any, properties: Any, body: bytes) -> Delivery:
        headers = properties.headers or {}
        identity, sent = properties.message_id or "", sent_at(headers)
        settled = threading.Event()

        def settle(act: Callable[[], None]) -> None:
            def on_thread() -> None:
                if channel.is_open:
                    act()
                else:
                    logger.info("message %s in %s will be delivered again: its channel was lost", identity, self._queue)

            if settled.is_set():
                logger.info("message %s in %s was settled before", identity, self._queue)
                return
            settled.set()
            if not (channel.is_open and self._run(on_thread)):
                logger.info("message %s in %s will be delivered again: its connection was lost", identity, self._queue)

        def ack() -> None:
            settle(lambda: channel.basic_ack(method.delivery_tag))

        def requeue() -> None:
            settle(lambda: channel.basic_nack(method.delivery_tag, requeue=True))

        def reject(reason: str) -> None:
            kept: Headers = {REASON: reason}
            answer_to = headers.get(ANSWER_TO)
            if answer_to is not None and self._queue.startswith("requests."):  # a dead result has no answer
                kept[ANSWER_TO] = str(answer_to)
            if sent is not None:
                kept[SENT_AT] = headers[SENT_AT]
            self._dead_letter(self._queue, body, identity, kept)
            ack()

        returns = headers.get("x-delivery-count", int(method.redelivered))
        dead = headers.get(REASON, headers.get("x-first-death-reason"))
        return Delivery(
            queue=self._queue,
            body=body,
            identity=identity,
            attempt=(returns if isinstance(returns, int) else 0) + 1,
            dead=None if dead is None else str(dead),
            sent_at=sent,
            ack=ack,
            requeue=requeue,
            reject=reject,
            unreadable=unreadable(properties),
            sender=properties.user_id or "",
        )
