"""The interface of a message broker, as coordinator and evaluators use it: queues, deliveries, announcements.

`InProcessBroker` and `RabbitBroker` implement it; `tests/contract/test_brokers.py` holds both to it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.broker.errors import MessageTooLargeError
from shared.messages import REQUEST_VERSION

MAX_MESSAGE_BYTES = 8 * 2**20
"""No message is larger. RabbitMQ 4 takes up to 16 MiB."""

COORDINATOR, EVALUATOR, OPERATOR, MONITORING = "coordinator", "evaluator", "operator", "monitoring"
"""The users of a farm's broker, one for each kind of service. A message may say what its user may."""

DEAD_LETTERS = "dead-letters"
"""The queue of dead letters: messages that no service could process, kept for people to look at."""

ANNOUNCEMENTS = "announcements"
"""The stream of announcements. Every reader gets all of them, and old ones are dropped."""
REMEMBERED_SECONDS = 300.0
"""How long an announcement is kept at least."""


def requests_queue(supernet_digest: str, version: int = REQUEST_VERSION) -> str:
    """The queue of requests for the evaluators of a super-network, from all searches.

    Each version of requests has a queue of its own: a release never receives what it can't read, and requests of
    another release wait for an evaluator that can.
    """
    return f"requests.{supernet_digest}" if version == 1 else f"requests.{supernet_digest}.v{version}"


def results_queue(search: str) -> str:
    """The queue of a search's results, and of those of its requests that became dead letters."""
    return f"results.{search}"


def check_size(queue_name: str, body: bytes) -> None:
    """Raises MessageTooLargeError for a message of more than MAX_MESSAGE_BYTES."""
    if len(body) > MAX_MESSAGE_BYTES:
        raise MessageTooLargeError(
            f"a message of {len(body):,} bytes for {queue_name}: {MAX_MESSAGE_BYTES:,} are the most; ask for less"
        )


@dataclass(frozen=True)
class Delivery:
    """A message that was delivered, and belongs to the receiver until it is settled: by `ack`, `requeue` or `reject`,
    whichever is called first. Later calls do nothing.

    Attributes:
        queue: the queue that it came from.
        body: the message.
        identity: the message's own, the same at every delivery.
        attempt: the number of the delivery, from 1, as far as the broker knows.
        dead: why it became a dead letter; None if it is none.
        unreadable: why the broker's client can't decode its properties; None where it can.
        sender: the broker's user who published it, as verified by the broker: "" where it isn't verified, None where
            there are no users, as all share one process.
        sent_at: when it was published (Unix time), by its publisher's clock; None where that isn't known.
        ack: acknowledges it: it was processed. Does nothing once the connection on which it came is lost; the message
            is delivered again then.
        requeue: puts it back, for another receiver. It counts as an attempt, as a lost consumer does.
        reject: makes it a dead letter, for the reason given: no service can process it.
    """

    queue: str
    body: bytes
    identity: str
    attempt: int
    dead: str | None
    sent_at: float | None
    ack: Callable[[], None]
    requeue: Callable[[], None]
    reject: Callable[[str], None]
    unreadable: str | None = None
    sender: str | None = None


@dataclass
class BrokerCounters:
    """What happened since this process started: numbers for telemetry that only grow."""

    published: int = 0
    received: int = 0
    redelivered: int = 0
    rejected: int = 0
    skipped: int = 0
    reconnects: int = 0


class Broker(Protocol):
    """Named queues of JSON messages, delivered at least once: a message that its consumer didn't settle is delivered
    again when that consumer is lost. May be used from several threads.

    A lost connection is replaced without callers noticing, but for `connected`. What can't succeed raises BrokerError.
    `pumped_at` is when (`time.monotonic`) the broker's own thread was last seen alive.
    """

    counters: BrokerCounters

    @property
    def connected(self) -> bool:
        """Whether messages can be sent and received right now."""
        ...

    @property
    def pumped_at(self) -> float: ...

    def publish(self, queue_name: str, body: bytes, answer_to: str | None = None) -> None:
        """Put a message at the end of a queue; returns when the broker has confirmed it, however long that takes.

        `answer_to` is the queue that gets the message if it becomes a dead letter. After a lost connection a message
        may be in the queue twice.
        """
        ...

    def publish_all(self, queue_name: str, bodies: Sequence[bytes], answer_to: str | None = None) -> None:
        """`publish` several messages and wait for all confirmations together, so that many take hardly longer than one.

        None is published if one is too large. Of several errors the first is raised, when the others are known.
        """
        ...

    def announce(self, body: bytes) -> None:
        """Publish an announcement to all readers. Doesn't wait: it is lost while there is no connection."""
        ...

    def announced(self, seconds: float) -> list[bytes]:
        """All announcements of the last `seconds` (by their publishers' clocks), oldest first.

        The first call subscribes, and waits up to a few seconds for announcements from before it, of its own last
        `seconds`; later calls don't reach further back than that.
        """
        ...

    def receive(self, queue_name: str, timeout_seconds: float) -> Delivery | None:
        """The next message of a queue, or None if none comes in time.

        One at a time: the next one may be held back until this one is settled.
        """
        ...

    def stop_receiving(self, queue_name: str) -> None:
        """Receive no more from a queue until the next `receive`; what was delivered can still be settled.

        To be called before the last acknowledgement, so that no message comes that would only be requeued.
        """
        ...

    def close(self) -> None:
        """Requeue what isn't settled and end all waiting with BrokerClosedError."""
        ...
