"""Queues between coordinator and evaluators."""

from shared.broker.errors import (
    AccessRefusedError,
    BrokerClosedError,
    BrokerError,
    BrokerUnreachableError,
    ExchangeMissingError,
    MessageTooLargeError,
    QueueMissingError,
)
from shared.broker.inprocess import InProcessBroker
from shared.broker.protocol import (
    ANNOUNCEMENTS,
    COORDINATOR,
    DEAD_LETTERS,
    EVALUATOR,
    MAX_MESSAGE_BYTES,
    MONITORING,
    OPERATOR,
    REMEMBERED_SECONDS,
    Broker,
    BrokerCounters,
    Delivery,
    requests_queue,
    results_queue,
)
from shared.broker.reading import REASON_CHARACTERS, identity_in, read_requests, read_results

__all__ = [
    "ANNOUNCEMENTS",
    "COORDINATOR",
    "DEAD_LETTERS",
    "EVALUATOR",
    "MAX_MESSAGE_BYTES",
    "MONITORING",
    "OPERATOR",
    "REASON_CHARACTERS",
    "REMEMBERED_SECONDS",
    "AccessRefusedError",
    "Broker",
    "BrokerClosedError",
    "BrokerCounters",
    "BrokerError",
    "BrokerUnreachableError",
    "Delivery",
    "ExchangeMissingError",
    "InProcessBroker",
    "MessageTooLargeError",
    "QueueMissingError",
    "identity_in",
    "read_requests",
    "read_results",
    "requests_queue",
    "results_queue",
]
