"""The broker of the embedded farm: queues in the process, for a coordinator and an evaluator in threads of it."""

import logging
import threading
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from shared.broker.errors import BrokerClosedError
from shared.broker.protocol import (
    ANNOUNCEMENTS,
    DEAD_LETTERS,
    REMEMBERED_SECONDS,
    BrokerCounters,
    Delivery,
    check_size,
)
from shared.failure_policy import DELIVERY_LIMIT

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Message:
    identity: str
    body: bytes
    answer_to: str | None
    sent_at: float
    attempt: int = 1
    dead: str | None = None


class InProcessBroker:
    """Queues that live as long as the process and are made when they are first named.

    No consumer can be lost without its broker, so a message comes back only if it is requeued: then it is the first of
    its queue again, until it has come back DELIVERY_LIMIT times.
    """

    def __init__(self) -> None:
        self.counters = BrokerCounters()
        self._queues: defaultdict[str, deque[_Message]] = defaultdict(deque)
        self._unsettled: dict[int, tuple[str, _Message]] = {}
        self._announced: deque[tuple[float, bytes]] = deque()
        self._deliveries = 0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def connected(self) -> bool:
        return not self._closed

    @property
    def pumped_at(self) -> float:
        return time.monotonic()

    def publish(self, queue_name: str, body: bytes, answer_to: str | None = None) -> None:
        check_size(queue_name, body)
        with self._changed:
            self._check_open()
            self._queues[queue_name].append(_Message(uuid.uuid4().hex, body, answer_to, time.time()))
            self.counters.published += 1
            self._changed.notify_all()

    def publish_all(self, queue_name: str, bodies: Sequence[bytes], answer_to: str | None = None) -> None:
        for body in bodies:
            check_size(queue_name, body)
        for body in bodies:
            self.publish(queue_name, body, answer_to)

    def announce(self, body: bytes) -> None:
        check_size(ANNOUNCEMENTS, body)
        with self._changed:
            self._announced.append((time.monotonic(), body))
            while time.monotonic() - self._announced[0][0] > REMEMBERED_SECONDS:
                self._announced.popleft()

    def announced(self, seconds: float) -> list[bytes]:
        with self._changed:
            self._check_open()
            oldest = time.monotonic() - min(seconds, REMEMBERED_SECONDS)
            return [body for at, body in self._announced if at >= oldest]

    def receive(self, queue_name: str, timeout_seconds: float) -> Delivery | None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._closed or self._queues[queue_name], timeout_seconds):
                return None
            self._check_open()
            message = self._queues[queue_name].popleft()
            self._deliveries += 1
            self._unsettled[self._deliveries] = (queue_name, message)
            self.counters.received += 1
            self.counters.redelivered += message.attempt > 1
            return self._delivery(self._deliveries, queue_name, message)

    def stop_receiving(self, queue_name: str) -> None:
        """Nothing to do: no message leaves a queue before it is asked for."""

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._unsettled.clear()
            self._changed.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise BrokerClosedError("the broker is closed")

    def _delivery(self, number: int, queue_name: str, message: _Message) -> Delivery:
        def ack() -> None:
            self._settle(number)

        def requeue() -> None:
            if self._settle(number):
                self._requeue(queue_name, message)

        def reject(reason: str) -> None:
            if self._settle(number):
                self._dead_letter(queue_name, message, reason)

        return Delivery(
            queue=queue_name,
            body=message.body,
            identity=message.identity,
            attempt=message.attempt,
            dead=message.dead,
            sent_at=message.sent_at,
            ack=ack,
            requeue=requeue,
            reject=reject,
        )

    def _settle(self, number: int) -> bool:
        with self._changed:
            known = self._unsettled.pop(number, None) is not None
        if not known:
            logger.info("delivery %d was settled before", number)
        return known

    def _requeue(self, queue_name: str, message: _Message) -> None:
        if message.attempt > DELIVERY_LIMIT:
            self._dead_letter(queue_name, message, "delivery_limit")
            return
        with self._changed:
            self._queues[queue_name].appendleft(replace(message, attempt=message.attempt + 1))
            self._changed.notify_all()

    def _dead_letter(self, queue_name: str, message: _Message, reason: str) -> None:
        dead = replace(message, attempt=1, dead=reason)
        with self._changed:
            self.counters.rejected += 1
            self._queues[DEAD_LETTERS].append(dead)
            if message.answer_to is not None and message.answer_to != queue_name:
                self._queues[message.answer_to].append(dead)
            self._changed.notify_all()
