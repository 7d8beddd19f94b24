"""What coordinator and evaluators ask of a broker, whichever it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.broker.errors import MessageTooLargeError
from shared.messages import REQUEST_VERSION

MAX_MESSAGE_BYTES = 8 * 2**20
"""No message is larger. RabbitMQ 4 takes up to 16 MiB."""

COORDINATOR, EVALUATOR, OPERATOR, MONITORING = "coordinator", "evaluator", "operator", "monitoring"
"""The users of a farm's broker, one for each kind of service: who a message comes from is who may have sent it."""

DEAD_LETTERS = "dead-letters"
"""The queue that keeps, for people to look at, what nobody could handle."""


ANNOUNCEMENTS = "announcements"
"""The stream in which services tell about themselves; everybody reads the same, and it forgets."""
REMEMBERED_SECONDS = 300.0
"""How long an announcement is remembered at least."""


def requests_queue(supernet_digest: str, version: int = REQUEST_VERSION) -> str:
    """The queue from which the evaluators of a super-network take their requests, whichever search asks.

    Each version of requests has one of its own: what a release doesn't understand it never sees, so that requests of
    another one wait for an evaluator that does.
    """
    return f"requests.{supernet_digest}" if version == 1 else f"requests.{supernet_digest}.v{version}"


def results_queue(search: str) -> str:
    """The queue in which a search finds its results, and its requests that became dead letters."""
    return f"results.{search}"


def check_size(queue_name: str, body: bytes) -> None:
    """Raises MessageTooLargeError for a message that is."""
    if len(body) > MAX_MESSAGE_BYTES:
        raise MessageTooLargeError(
            f"a message of {len(body):,} bytes for {queue_name}: {MAX_MESSAGE_BYTES:,} are the most; ask for less"
        )


@dataclass(frozen=True)
class Delivery:
    """A message in somebody's hands, until one of the three ways to part with it is called: then it is gone from them.

    Attributes:
        queue: where it was taken from.
        body: the message.
        identity: the message's own; the same whenever it is delivered.
        attempt: 1 when it is delivered for the first time, as far as the broker knows.
        dead: why it became a dead letter; None if it is none.
        unreadable: why the broker's client can't decode what comes with it; None where it can.
        sender: the broker's user who published it, for which the broker vouches: "" where it doesn't, None where there
            are no users, as all share one process.
        sent_at: when it was published (Unix time), by its publisher's clock; None where that isn't known.
        ack: it was dealt with. Where the connection on which it came is lost this does nothing: it comes again.
        requeue: somebody else shall have it. It counts as an attempt, as a lost consumer does.
        reject: nobody can deal with it, for the reason given: makes it a dead letter.
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
    """What happened since this process began: numbers for telemetry that only grow."""

    published: int = 0
    received: int = 0
    redelivered: int = 0
    rejected: int = 0
    skipped: int = 0
    reconnects: int = 0


class Broker(Protocol):
    """Named queues of JSON messages, delivered at least once: what consumers didn't acknowledge comes back when they
    are lost. May be used from several threads.

    A lost connection is made anew without anybody noticing, but for `connected`. What can't succeed raises BrokerError.
    `pumped_at` is when (`time.monotonic`) the broker's own thread was last seen alive.
    """

    counters: BrokerCounters

    @property
    def connected(self) -> bool:
        """Whether messages can go to and fro right now."""
        ...

    @property
    def pumped_at(self) -> float: ...

    def publish(self, queue_name: str, body: bytes, answer_to: str | None = None) -> None:
        """Put a message at the end of a queue; returns when the broker has it for good, however long that takes.

        `answer_to` is the queue that gets the message if it becomes a dead letter. After a lost connection a message
        may be there twice.
        """
        ...

    def publish_all(self, queue_name: str, bodies: Sequence[bytes], answer_to: str | None = None) -> None:
        """`publish` several messages: one wait for all confirmations, so that many cost hardly more time than one.

        None is published if one is too large. Of several errors the first is raised, when the others are known.
        """
        ...

    def announce(self, body: bytes) -> None:
        """Tell everybody something that is soon out of date. Doesn't wait: lost where the broker isn't there."""
        ...

    def announced(self, seconds: float) -> list[bytes]:
        """What anybody announced in the last `seconds` (by the clock of who did), oldest first.

        The first call begins to listen, and waits up to a few seconds for what was announced before it: for no longer
        than its own `seconds`, whatever later calls ask for.
        """
        ...

    def receive(self, queue_name: str, timeout_seconds: float) -> Delivery | None:
        """Take the first message of a queue, or None if none comes in time.

        One at a time: the next message may be held back until this one is parted with.
        """
        ...

    def stop_receiving(self, queue_name: str) -> None:
        """Take no more from a queue until the next `receive`; what was delivered stays in hand.

        Before the last acknowledgement, so that no message comes that would only be given back.
        """
        ...

    def close(self) -> None:
        """Give back what is in hand and end all waiting with BrokerClosedError."""
        ...
