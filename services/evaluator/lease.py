"""The lease of the requests that are being evaluated. The worker, the watchdog and a shutdown may each want to answer
or requeue them; only the one that claims it may."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from shared.broker import Broker, Delivery, MessageTooLargeError, QueueMissingError, results_queue
from shared.failure_policy import EVALUATION_LIMIT_SECONDS, REDELIVERY_SECONDS
from shared.messages import EvaluationRequest, EvaluationResult


@dataclass(frozen=True)
class Lease:
    """Requests of one message that are evaluated since `began` (`time.monotonic`), when there had been `reconnects`
    reconnections."""

    requests: tuple[EvaluationRequest, ...]
    delivery: Delivery
    began: float
    reconnects: int


class LeaseSlot:
    """Holds one lease at a time. Whichever thread claims it answers its requests or requeues them."""

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
        """Wait until a lease has been held for longer than its requests may take, `limit_seconds` each and no more
        than EVALUATION_LIMIT_SECONDS; and claim it."""
        with self._changed:
            while True:
                held = self._held
                left = None if held is None else held.began + allowed(held, limit_seconds) - time.monotonic()
                if held is not None and left is not None and left <= 0:
                    self._held = None
                    return held
                self._changed.wait(left)


def said_of(requests: Sequence[EvaluationRequest]) -> dict[str, object]:
    """Of requests that are evaluated together, the fields of what is logged meanwhile: their search, the network or the
    first one, and of several how many there are."""
    about: dict[str, object] = {"search": requests[0].search, "candidate": requests[0].identity}
    return about if len(requests) == 1 else {**about, "networks": len(requests)}


def allowed(lease: Lease, limit_seconds: float) -> float:
    """How long the requests of a lease may take, each of which may take so long: the broker waits for no message longer
    than for the most that one request may take."""
    return min(len(lease.requests) * limit_seconds, max(limit_seconds, EVALUATION_LIMIT_SECONDS))


def answer(broker: Broker, lease: Lease, results: Sequence[EvaluationResult], last: bool) -> bool:
    """Publish the results of a lease's requests, and acknowledge their message once the broker has confirmed them all;
    False if they can't be delivered and it was rejected. `last`: receive no more requests, for now.

    Waits while the broker can't be reached. Raises BrokerError where it refuses for good, BrokerClosedError.
    """
    delivery = lease.delivery
    try:
        bodies = [result.model_dump_json().encode() for result in results]
        broker.publish_all(results_queue(results[0].search), bodies)
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
    """Acknowledge an answered message that was redelivered over a new connection."""
    again = broker.receive(lost.queue, REDELIVERY_SECONDS)
    if again is None:
        return
    if again.identity == lost.identity:
        again.ack()
    else:
        again.requeue()
