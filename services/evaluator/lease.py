"""The request in work. Several may want to part with it: who computes it, who finds that it takes too long, who has to
leave. Only one of them may."""

import threading
import time
from dataclasses import dataclass

from shared.broker import Broker, Delivery, MessageTooLargeError, QueueMissingError, results_queue
from shared.messages import EvaluationRequest, EvaluationResult
from shared.policy import REDELIVERY_SECONDS


@dataclass(frozen=True)
class Lease:
    """A request in work since `began` (`time.monotonic`), when connections had been made anew `reconnects` times."""

    request: EvaluationRequest
    delivery: Delivery
    began: float
    reconnects: int


class LeaseSlot:
    """Holds one assignment at a time; whoever claims it is the one who answers it or gives it back."""

    def __init__(self) -> None:
        self._held: Lease | None = None
        self._changed = threading.Condition()

    def put(self, assignment: Lease) -> None:
        """Begin to work on something."""
        with self._changed:
            self._held = assignment
            self._changed.notify_all()

    def claim(self) -> Lease | None:
        """What is in work, for the caller alone; None if nothing is, or another has claimed it."""
        with self._changed:
            held, self._held = self._held, None
            self._changed.notify_all()
        return held

    def claim_expired(self, limit_seconds: float) -> Lease:
        """Wait until something has been in work for so long, and claim it."""
        with self._changed:
            while True:
                held = self._held
                left = None if held is None else held.began + limit_seconds - time.monotonic()
                if held is not None and left is not None and left <= 0:
                    self._held = None
                    return held
                self._changed.wait(left)


def answer(broker: Broker, assignment: Lease, result: EvaluationResult, last: bool) -> bool:
    """Publish a result, and part with its request once the broker has it for good; False if nobody can take the result
    and the request was set aside. `last`: take no more requests, for now.

    Waits for as long as the broker is away. Raises BrokerError where it refuses for good, BrokerClosedError.
    """
    delivery = assignment.delivery
    try:
        broker.publish(results_queue(result.search), result.model_dump_json().encode())
    except (QueueMissingError, MessageTooLargeError) as error:
        delivery.reject(str(error))
        return False
    if last:
        if broker.counters.reconnects != assignment.reconnects:
            _adopt(broker, delivery)
        broker.stop_receiving(delivery.queue)
    delivery.ack()
    return True


def _adopt(broker: Broker, lost: Delivery) -> None:
    """Part with what came again, over a new connection, of a request that is answered."""
    again = broker.receive(lost.queue, REDELIVERY_SECONDS)
    if again is None:
        return
    if again.identity == lost.identity:
        again.ack()
    else:
        again.requeue()
