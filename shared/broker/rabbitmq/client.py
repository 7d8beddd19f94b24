"""A connection to RabbitMQ that lives on a thread of its own and comes back whenever it is lost."""

import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pika
from pika.adapters.select_connection import IOLoop

from shared.backoff import Backoff
from shared.broker.address import BrokerAddress
from shared.broker.errors import BrokerClosedError
from shared.broker.protocol import ANNOUNCEMENTS, DEAD_LETTERS, BrokerCounters, Delivery, check_size
from shared.broker.rabbitmq.announcement_stream import AnnouncementListener, AnnouncementPublisher
from shared.broker.rabbitmq.consumer import Consumer
from shared.broker.rabbitmq.decoding import tolerate
from shared.broker.rabbitmq.headers import ANSWER_TO, REASON, SENT_AT, Headers, now
from shared.broker.rabbitmq.publisher import Outgoing, Publisher
from shared.broker.rabbitmq.refusals import cause, connection_refusal, unreached
from shared.errors import first_line
from shared.failure_policy import (
    BLOCKED_SECONDS,
    CLOSE_SECONDS,
    CLOSE_UNANSWERED_SECONDS,
    COMMAND_ANSWER_SECONDS,
    CONNECT_SECONDS,
    HEARTBEAT_SECONDS,
    JOIN_SECONDS,
    RECONNECT_PAUSE,
    REQUESTS_PREFETCH,
)

logger = logging.getLogger(__name__)
# pika reports each lost connection several times, with tracebacks. What it means for us is logged here, once.
logging.getLogger("pika").setLevel(logging.CRITICAL)
tolerate()

TICK_SECONDS = 1.0


class RabbitBroker:
    """RabbitMQ as a Broker. It connects by itself, from now on until `close`; `connect` waits for the first success.

    pika sends no heartbeat while its user computes and is not safe to be used from several threads: so everything that
    is pika's happens on one thread, which does nothing else. Its asynchronous connection is used because it reports
    every loss of a channel; the blocking one continues silently after the broker closed its channel.
    """

    def __init__(
        self,
        address: BrokerAddress,
        name: str,
        prefetch: int = REQUESTS_PREFETCH,
        heartbeat_seconds: int = HEARTBEAT_SECONDS,
        patient: bool = True,
    ) -> None:
        """Begin to connect.

        Args:
            address: the broker's.
            name: what the broker calls this connection in its lists and logs.
            prefetch: how many messages of a queue may be delivered and not settled.
            heartbeat_seconds: a peer that was silent for two of these is lost.
            patient: whether to try again if the first connection doesn't come up; a command at which a person waits
                isn't.
        """
        self.counters = BrokerCounters()
        self._address = address
        self._parameters = parameters(address, name, heartbeat_seconds)
        self._prefetch, self._patient = prefetch, patient
        self._publisher = Publisher(self.counters)
        self._announcer = AnnouncementPublisher(address.user)
        self._listener = AnnouncementListener(self.counters, self._run)
        self._consumers: dict[str, Consumer] = {}
        self._lock = threading.Lock()
        self._loop: IOLoop | None = None
        self._connection: Any = None
        self._lost_because: BaseException = ConnectionError("no answer")
        self._up = threading.Event()
        self._closing = threading.Event()
        self._ended: BaseException | None = None
        self._pumped_at = time.monotonic()
        self._thread = threading.Thread(target=self._live, name=f"broker {name}", daemon=True)
        self._thread.start()

    @property
    def connected(self) -> bool:
        return self._ended is None and self._connection is not None

    @property
    def pumped_at(self) -> float:
        return self._pumped_at

    def connect(self, timeout_seconds: float | None = None) -> None:
        """Wait until the first connection is up, by default for JOIN_SECONDS; for COMMAND_ANSWER_SECONDS if not
        patient.

        Raises BrokerError where it won't be, or isn't in time.
        """
        usual = JOIN_SECONDS if self._patient else COMMAND_ANSWER_SECONDS
        self._up.wait(usual if timeout_seconds is None else timeout_seconds)
        if self._ended is not None:
            raise self._ended
        if not self._up.is_set():
            raise unreached(self._address, self._lost_because)

    def publish(self, queue_name: str, body: bytes, answer_to: str | None = None) -> None:
        self.publish_all(queue_name, [body], answer_to)

    def publish_all(self, queue_name: str, bodies: Sequence[bytes], answer_to: str | None = None) -> None:
        for body in bodies:
            check_size(queue_name, body)
        headers: Headers = {} if answer_to is None else {ANSWER_TO: answer_to}
        headers[SENT_AT] = now()
        self._send([self._outgoing(queue_name, body, uuid.uuid4().hex, headers) for body in bodies])

    def announce(self, body: bytes) -> None:
        check_size(ANNOUNCEMENTS, body)
        self._run(lambda: self._announcer.publish(body))

    def announced(self, seconds: float) -> list[bytes]:
        return self._listener.heard(seconds)

    def receive(self, queue_name: str, timeout_seconds: float) -> Delivery | None:
        return self._consumer(queue_name).take(timeout_seconds)

    def stop_receiving(self, queue_name: str) -> None:
        consumer = self._consumer(queue_name)
        consumer.wanted = False  # at once, lest a new connection begins again
        self._run(consumer.stop)

    def close(self) -> None:
        self._closing.set()
        self._run(self._say_goodbye)
        # What never answered isn't waited for: its thread ends by itself.
        self._thread.join(2 * CLOSE_SECONDS if self._up.is_set() else CLOSE_UNANSWERED_SECONDS)

    def _send(self, messages: Sequence[Outgoing]) -> None:
        """Put messages on their way and wait until each is confirmed or has failed. Raises the first failure."""
        with self._lock:
            if self._ended is not None:
                raise self._ended
            for message in messages:
                self._publisher.submit(message)
        self._run(self._publisher.flush)
        for failure in [message.confirmed.exception() for message in messages]:
            if failure is not None:
                raise failure

    def _dead_letter(self, queue_name: str, body: bytes, identity: str, headers: Headers) -> None:
        logger.warning("message %s in %s becomes a dead letter: %s", identity, queue_name, headers[REASON])
        kept: Headers = {**headers, "queue": queue_name}
        self._send([self._outgoing(DEAD_LETTERS, body, identity or uuid.uuid4().hex, kept)])
        self.counters.rejected += 1

    def _outgoing(self, queue_name: str, body: bytes, identity: str, headers: Headers) -> Outgoing:
        return Outgoing(queue_name, body, identity, self._address.user, headers)

    def _consumer(self, queue_name: str) -> Consumer:
        with self._lock:
            if self._ended is not None:
                raise self._ended
            if queue_name not in self._consumers:
                consumer = Consumer(queue_name, self._prefetch, self.counters, self._run, self._dead_letter)
                self._consumers[queue_name] = consumer
                self._run_locked(lambda: self._attach(consumer))
            return self._consumers[queue_name]

    def _attach(self, consumer: Consumer) -> None:
        if self._connection is not None:
            consumer.attach(self._connection)

    def _run(self, action: Callable[[], Any]) -> bool:
        """Have the connection's thread do something; False where there is none."""
        with self._lock:
            return self._run_locked(action)

    def _run_locked(self, action: Callable[[], Any]) -> bool:
        if self._loop is not None:
            self._loop.add_callback_threadsafe(action)
        return self._loop is not None

    def _live(self) -> None:
        ended: BaseException = BrokerClosedError(f"{self._address}: the broker is closed")
        try:
            ended = self._reconnect_until_closed() or ended
        except BaseException as error:  # a bug: it belongs to those who wait for this thread
            ended = error
        with self._lock:
            self._ended = ended
            consumers = list(self._consumers.values())
        self._publisher.end(ended)
        self._listener.end(ended)
        for consumer in consumers:
            consumer.end(ended)
        self._up.set()

    def _reconnect_until_closed(self) -> BaseException | None:
        """Make one connection after another. Returns the refusal that made it useless to continue, if one did."""
        backoff = Backoff(RECONNECT_PAUSE)
        while not self._closing.is_set():
            began = time.monotonic()
            self._one_connection()
            refusal = connection_refusal(self._lost_because, self._address)
            if refusal is not None:
                return refusal
            if not self._patient and not self._up.is_set():
                return unreached(self._address, self._lost_because)
            if time.monotonic() - began > RECONNECT_PAUSE.last_seconds:
                backoff.reset()
            if not self._closing.is_set():
                reason = first_line(self._lost_because)
                logger.warning("no connection to %s (%s); trying again", self._address, reason)
                self._closing.wait(backoff.failed() * random.uniform(0.5, 1))
        return None

    def _one_connection(self) -> None:
        """From the first packet of a connection to its loss, whose reason is noted."""
        loop = IOLoop()
        pika.SelectConnection.create_connection([self._parameters], self._opened, custom_ioloop=loop)
        loop.call_later(0, self._tick)
        with self._lock:
            self._loop = loop
        try:
            loop.start()
        finally:
            with self._lock:
                self._loop, self._connection = None, None
            loop.close()

    def _tick(self) -> None:
        self._pumped_at = time.monotonic()
        if self._loop is not None:
            self._loop.call_later(TICK_SECONDS, self._tick)

    def _opened(self, result: Any) -> None:
        if isinstance(result, BaseException):
            self._lost(None, result)
            return
        result.add_on_close_callback(self._lost)
        with self._lock:
            self._connection = result
            consumers = list(self._consumers.values())
        if self._closing.is_set():
            self._say_goodbye()
            return
        if self._up.is_set():
            self.counters.reconnects += 1
            logger.warning("connected to %s again", self._address)
        self._up.set()
        self._publisher.attach(result)
        self._announcer.attach(result)
        self._listener.attach(result)
        for consumer in consumers:
            consumer.attach(result)

    def _lost(self, _connection: Any, reason: BaseException) -> None:
        self._lost_because = cause(reason)
        self._connection = None
        if self._loop is not None:
            self._loop.stop()

    def _say_goodbye(self) -> None:
        """Close the connection. One that is being made is closed once it is up: pika can't give it up."""
        if self._loop is not None and self._connection is not None and self._connection.is_open:
            self._connection.close()
            self._loop.call_later(CLOSE_SECONDS, self._loop.stop)


def parameters(
    address: BrokerAddress,
    name: str,
    heartbeat_seconds: int = HEARTBEAT_SECONDS,
    blocked_seconds: float = BLOCKED_SECONDS,
    connect_seconds: float = CONNECT_SECONDS,
) -> pika.ConnectionParameters:
    """What pika wants to know of a connection."""
    return pika.ConnectionParameters(
        host=address.host,
        port=address.port,
        virtual_host=address.vhost,
        credentials=pika.PlainCredentials(address.user, address.password),
        ssl_options=None if address.tls is None else pika.SSLOptions(address.tls, address.host),
        heartbeat=heartbeat_seconds,
        blocked_connection_timeout=blocked_seconds,
        socket_timeout=connect_seconds,
        stack_timeout=2 * connect_seconds,
        client_properties={"connection_name": name},
    )
