"""What coordinator and evaluators ask of a broker, whichever it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

REQUESTS = "requests"
"""The queue from which evaluators take their requests."""


def results_queue(search: str) -> str:
    """The queue in which a search finds its results."""
    return f"results.{search}"


@dataclass(frozen=True)
class Delivery:
    """A message in somebody's hands; it is gone from the queue once it is acknowledged."""

    body: bytes
    ack: Callable[[], None]


class Broker(Protocol):
    """Named queues of JSON messages, delivered at least once: where consumers can be lost, what they didn't
    acknowledge comes back."""

    def publish(self, queue_name: str, body: bytes) -> None:
        """Put a message at the end of a queue; returns when the broker has it."""
        ...

    def receive(self, queue_name: str, timeout_seconds: float) -> Delivery | None:
        """Take the first message of a queue, or None if none comes in time."""
        ...
