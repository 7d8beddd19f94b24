"""Announcements over one connection after another: a stream that everybody reads from where they were."""

import logging
import math
import threading
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from shared.broker.errors import QueueMissingError
from shared.broker.protocol import ANNOUNCEMENTS, REMEMBERED_SECONDS, BrokerCounters
from shared.broker.rabbitmq.announcement_senders import AnnouncementSenders
from shared.broker.rabbitmq.decoding import unreadable
from shared.broker.rabbitmq.headers import SENT_AT, now, sent_at
from shared.broker.rabbitmq.publisher import Outgoing
from shared.broker.rabbitmq.refusals import channel_refusal
from shared.failure_policy import ANNOUNCEMENTS_PREFETCH, REOPEN_SECONDS

logger = logging.getLogger(__name__)

CATCH_UP_SECONDS = 5.0
"""How long the first call waits at most for what was announced before it."""
QUIET_SECONDS = 0.75
"""A stream that gives nothing for so long has given all that it had."""
OVERLAP_SECONDS = 60.0
"""Clocks differ, and a stream is found by time only roughly."""


class AnnouncementPublisher:
    """Publishes without confirmations, on a channel of its own that is opened when first something is announced.

    `user` is the broker's, who we are. `publish` runs on the connection's thread, as all else here does.
    """

    def __init__(self, user: str) -> None:
        self._user = user
        self._connection: Any = None
        self._channel: Any = None
        self._waiting: deque[bytes] = deque()
        self._refused: str | None = None

    def attach(self, connection: Any) -> None:
        """Use a new connection. What waited for the old one is out of date."""
        self._connection, self._channel = connection, None
        self._waiting.clear()

    def publish(self, body: bytes) -> None:
        """Announce something, if there is a connection."""
        if self._connection is None or not self._connection.is_open:
            return
        self._waiting.append(body)
        if self._channel is None:
            self._channel = self._connection.channel(on_open_callback=self._flush)
            self._channel.add_on_close_callback(self._closed)
        elif self._channel.is_open:
            self._flush(self._channel)

    def _flush(self, channel: Any) -> None:
        while self._waiting and channel.is_open:
            message = Outgoing(ANNOUNCEMENTS, self._waiting.popleft(), uuid.uuid4().hex, self._user, {SENT_AT: now()})
            channel.basic_publish(message.exchange, message.queue, message.body, message.properties)

    def _closed(self, channel: Any, reason: BaseException) -> None:
        """The next announcement opens another channel. A refusal is logged once, as each announcement repeats it."""
        if channel is not self._channel:
            return
        self._channel = None
        self._waiting.clear()
        refusal = channel_refusal(reason, ANNOUNCEMENTS)
        if refusal is not None and str(refusal) != self._refused:
            self._refused = str(refusal)
            logger.warning("announcements are refused: %s", refusal)


class AnnouncementListener:
    """Hears the stream on a channel of its own, and remembers what was announced in the last REMEMBERED_SECONDS.

    `heard` and `end` may be called from any thread, all else runs on the connection's own. After a lost connection it
    goes back to some time before, and ignores what it knows: by its identity, as a stream that was deleted and
    declared again counts its messages from 0 again.

    Args:
        counters: where announcements that can't be decoded, or pretend to be another's, are counted; they are
            ignored.
        run: runs something on the connection's thread; False where there is no connection.
    """

    def __init__(self, counters: BrokerCounters, run: Callable[[Callable[[], None]], bool]) -> None:
        self._counters, self._run = counters, run
        self._senders = AnnouncementSenders()
        self._wanted = False
        self._heard: OrderedDict[str, tuple[float, bytes | None]] = (
            OrderedDict()
        )  # a dict is slow at forgetting its first
        self._last_heard: float | None = None
        self._consuming = False
        self._caught_up = False
        self._began = 0.0
        self._reach = 0.0
        self._error: BaseException | None = None
        self._final = False
        self._changed = threading.Condition()
        self._connection: Any = None
        self._channel: Any = None

    def heard(self, seconds: float) -> list[bytes]:
        """What was announced in the last `seconds`. Raises what is wrong with the stream."""
        with self._changed:
            if not self._wanted:
                self._wanted, self._began, self._reach = True, time.time(), min(seconds, REMEMBERED_SECONDS)
                self._run(self._open)
            if not self._caught_up:
                self._wait_until_caught_up()
            if self._error is not None:
                error = self._error
                if not self._final:
                    self._error, self._wanted = None, False
                raise error
            oldest = time.time() - min(seconds, REMEMBERED_SECONDS)
            return [body for at, body in self._heard.values() if at >= oldest and body is not None]

    def _wait_until_caught_up(self) -> None:
        """Until nothing more comes, or something that was announced later; but not for ever."""
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while not self._caught_up and self._error is None:
            left = deadline - time.monotonic()
            more = self._changed.wait(min(left, QUIET_SECONDS)) if left > 0 else False
            if left <= 0 or (not more and self._consuming):
                self._caught_up = True

    def attach(self, connection: Any) -> None:
        """Use a connection, if it is a new one."""
        if connection is not self._connection:
            self._connection, self._channel = connection, None
            self._open()

    def end(self, error: BaseException) -> None:
        """Nothing will be heard any more: `heard` raises the error from now on."""
        self._fail(error, final=True)

    def _fail(self, error: BaseException, final: bool = False) -> None:
        with self._changed:
            self._error, self._final = error, final
            self._changed.notify_all()

    def _open(self) -> None:
        if self._wanted and self._channel is None and self._connection is not None and self._connection.is_open:
            self._channel = self._connection.channel(on_open_callback=self._opened)
            self._channel.add_on_close_callback(self._closed)
            self._channel.add_on_cancel_callback(self._cancelled)

    def _opened(self, channel: Any) -> None:
        channel.basic_qos(prefetch_count=ANNOUNCEMENTS_PREFETCH)
        reach = self._reach
        if self._last_heard is not None:
            reach = min(REMEMBERED_SECONDS, time.monotonic() - self._last_heard + OVERLAP_SECONDS)
        start = {"x-stream-offset": f"{math.ceil(reach)}s"}
        channel.basic_consume(ANNOUNCEMENTS, self._delivered, arguments=start, callback=self._consume_ok)

    def _consume_ok(self, _frame: Any) -> None:
        with self._changed:
            self._consuming = True
            self._changed.notify_all()

    def _delivered(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        channel.basic_ack(method.delivery_tag)
        self._last_heard, arrived = time.monotonic(), time.time()
        with self._changed:
            if properties.message_id in self._heard:
                return
            at = min(sent_at(properties.headers or {}) or arrived, arrived)
            self._caught_up |= at >= self._began
            problem = unreadable(properties) or self._senders.objection(body, properties.user_id or "")
            if problem is not None:
                logger.warning("%s: a message was ignored: %s", ANNOUNCEMENTS, problem)
                self._counters.skipped += 1
            self._heard[properties.message_id] = (at, body if problem is None else None)
            while self._heard and self._heard[oldest := next(iter(self._heard))][0] < arrived - REMEMBERED_SECONDS:
                del self._heard[oldest]
            self._changed.notify_all()

    def _cancelled(self, _frame: Any) -> None:
        logger.warning("%s: consumer cancelled by the broker", ANNOUNCEMENTS)
        if self._channel is not None and self._channel.is_open:
            self._channel.close()

    def _closed(self, channel: Any, reason: BaseException) -> None:
        if channel is not self._channel:
            return
        self._channel = None
        error = channel_refusal(reason, ANNOUNCEMENTS)
        if isinstance(error, QueueMissingError):
            error = QueueMissingError(f"{ANNOUNCEMENTS}: the broker has no such stream; load the farm's definitions")
        if error is not None:
            self._fail(error)
        elif self._connection.is_open:
            logger.warning("%s: channel closed: %s", ANNOUNCEMENTS, reason)
            self._connection.ioloop.call_later(REOPEN_SECONDS, self._open)
