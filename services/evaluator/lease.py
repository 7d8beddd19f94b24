"""The lease of the request that is being evaluated. The worker, the watchdog and a shutdown may each want to answer or
requeue it; only the one that claims it may."""

import threading
import time
from dataclasses import dataclass

from shared.broker import Broker, Delivery, MessageTooLargeError, QueueMissingError, results_queue
from shared.failure_policy import REDELIVERY_SECONDS
from shared.messages import EvaluationRequest, EvaluationResult


@dataclass(frozen=True)
class Lease:
    """A request that is evaluated since `began` (`time.monotonic`), when there had been `reconnects` reconnections."""

    request: EvaluationRequest
    delivery: Delivery
    began: float
    reconnects: int


class LeaseSlot:
    """Holds one lease at a time. Whichever thread claims it answers its request or requeues it."""

    def __init__(self) -> None:
        self._held: Lease | None = None
        self._changed = threading.Condition()

    def hold(self, lease: Lease) -> None:
        """Put in a lease, whose evaluation begins."""
        with self._changed:
            self._held = lease
            self._changed.notify_all()

    def claim(self) -> Lease | None:
        """The lease, for the caller alone; None if there is none, or another thread has claimed it."""
        with self._changed:
            held, self._held = self._held, None
            self._changed.notify_all()
        return held

    def claim_expired(self, limit_seconds: float) -> Lease:
        """Wait until a lease has been held for so long, and claim it."""
        with self._changed:
            while True:
                held = self._held
                left = None if held is None else held.began + limit_seconds - time.monotonic()
                if held is not None and left is not None and left <= 0:
                    self._held = None
                    return held
                self._changed.wait(left)


def answer(broker: Broker, lease: Lease, result: EvaluationResult, last: bool) -> bool:
    """Publish a result, and acknowledge its request once the broker has confirmed that; False if the result can't be
    delivered and the request was rejected. `last`: receive no more requests, for now.

    Waits while the broker can't be reached. Raises BrokerError where it refuses for good, BrokerClosedError.
    """
    delivery = lease.delivery
    try:
        broker.publish(results_queue(result.search), result.model_dump_json().encode())
    except (QueueMissingError, MessageTooLargeError) as error:
        delivery.reject(str(error))
        return False
    if last:
        if broker.counters.reconnects != lease.reconnects:
            _ack_redelivered(broker, delivery)
        broker.stop_receiving(delivery.queue)
    delivery.ack()
    return True


def _ack_redelivered(broker: Broker, lost: Delivery) -> None:
    """Acknowledge an answered request that was redelivered over a new connection."""
    again = broker.receive(lost.queue, REDELIVERY_SECONDS)
    if again is None:
        return
    if again.identity == lost.identity:
        again.ack()
    else:
        again.requeue()
