"""The broker of the embedded farm: queues in the process, for a coordinator and an evaluator in threads of it."""

import queue
from collections import defaultdict

from shared.broker.protocol import Delivery


class InProcessBroker:
    """Queues that live as long as the process, safe to be used from several threads.

    No consumer can be lost without its broker, so there is nothing to bring back and an acknowledgement does nothing.
    """

    def __init__(self) -> None:
        self._queues: defaultdict[str, queue.SimpleQueue[bytes]] = defaultdict(queue.SimpleQueue)

    def publish(self, queue_name: str, body: bytes) -> None:
        """Put a message at the end of a queue."""
        self._queues[queue_name].put(body)

    def receive(self, queue_name: str, timeout_seconds: float) -> Delivery | None:
        """Take the first message of a queue, or None if none comes in time."""
        try:
            return Delivery(self._queues[queue_name].get(timeout=timeout_seconds), lambda: None)
        except queue.Empty:
            return None
