"""The topology of a farm's broker: exchanges, queues, policies and users with their rights, as files for RabbitMQ 3.10
to 4.

Services declare nothing. A definitions file declares, when the broker starts, what lasts as long as the farm:

* the exchanges `requests` and `results`, which route a message to the queue that it names. Rights to publish are
  granted per exchange; through the default exchange any user who may publish at all could publish to every queue.
* the exchange `control`, through which an operator reaches a search's queue of results; evaluators may not publish
  there.
* the exchange `dead-letters`. Everything in it goes to the queue of that name, and requests also go to the results of
  their search, by the header `answer-to`, which a dead letter keeps. No queue of requests is bound to it, as evaluators
  may publish to it.
* the exchange and the stream `announcements`. A stream keeps messages for a while, for any number of readers.
* policies: delivery limits (`shared.failure_policy`) and dead-lettering at least once. They are policies, and no
  arguments of the queues, as a queue's arguments can't be changed once it exists.

The queues of a super-network and of a search are created and deleted with it. An operator, the only user who may, adds
them before the search begins (`python -m shared.broker add`). A fixed pool of numbered queues would need no operator,
but something would have to assign them. The evaluators of a super-network share one queue of requests; each search has
one queue of results, and is its only reader.

That a message is in a queue doesn't prove who wrote it. Every message carries its user, verified by the broker, and its
reader checks whether that user may send such a message (`shared/broker/reading.py`).
"""

import base64
import hashlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.broker.protocol import (
    ANNOUNCEMENTS,
    COORDINATOR,
    DEAD_LETTERS,
    EVALUATOR,
    MONITORING,
    OPERATOR,
    REMEMBERED_SECONDS,
)
from shared.errors import UserError
from shared.failure_policy import CONSUMER_TIMEOUT_SECONDS, DELIVERY_LIMIT, RESULTS_DELIVERY_LIMIT, UNUSED_QUEUE_SECONDS
from shared.files import write_atomically, writing
from shared.messages import REQUEST_VERSION

VHOST = "nasfarm"
CONTROL = "control"
"""The exchange for requests to stop a search."""
DEAD_LETTERS_BYTES = 2**30
"""Beyond that the oldest dead letters are dropped."""
MAX_BROKER_MESSAGE_BYTES = 16 * 2**20
"""The most that RabbitMQ 4 accepts; older releases are limited to it."""
QUEUE_ARGUMENTS = {"x-queue-type": "quorum"}
STREAM_ARGUMENTS = {
    "x-queue-type": "stream",
    "x-max-age": f"{2 * REMEMBERED_SECONDS:.0f}s",
    "x-max-length-bytes": 2**28,
    "x-stream-max-segment-size-bytes": 2**20,
}
"""A stream drops whole segments, whenever it starts another one: they are small, so that it does."""

# For each user the names that may be declared (`configure`), published to or bound (`write`), and read. From RabbitMQ
# 4.3 on, asking for a queue's depth takes the right to declare it.
RIGHTS: dict[str, tuple[str, str, str]] = {
    COORDINATOR: ("^$", r"^(requests|dead-letters|announcements)$", r"^(results\..*|announcements)$"),
    EVALUATOR: ("^$", r"^(results|dead-letters|announcements)$", r"^requests\."),
    MONITORING: ("^$", "^$", r"^announcements$"),
    OPERATOR: (
        r"^((requests|results)\..*|dead-letters)$",
        r"^((requests|results)\..*|control)$",
        r"^((requests|results|dead-letters)(\..*)?|control|announcements)$",
    ),
}
OTHER_VERSIONS = rf"^requests\.(?!.*\.v{REQUEST_VERSION}$)"
"""The queues that `requests_queue` names for other versions of requests."""
EXCHANGES = {**dict.fromkeys(("requests", "results", CONTROL, ANNOUNCEMENTS), "direct"), DEAD_LETTERS: "headers"}
TAGS = {MONITORING: ["monitoring"]}


def queue_arguments(queue_name: str) -> dict[str, str | int]:
    """Arguments of a queue of requests or results.

    RabbitMQ 3.10 ignores the timeout that a queue has of its own and goes by the node's.
    """
    if queue_name.startswith("requests."):
        return {**QUEUE_ARGUMENTS, "x-consumer-timeout": CONSUMER_TIMEOUT_SECONDS * 1000}
    return dict(QUEUE_ARGUMENTS)


def definitions(passwords: Mapping[str, str], vhost: str = VHOST) -> dict[str, Any]:
    """RabbitMQ's definitions of a farm, with a password for each user in RIGHTS. They hold salted hashes only."""
    return {
        "vhosts": [{"name": vhost}],
        "users": [
            {
                "name": user,
                "password_hash": _password_hash(passwords[user]),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": TAGS.get(user, []),
            }
            for user in RIGHTS
        ],
        "permissions": [
            {"user": user, "vhost": vhost, "configure": configure, "write": write, "read": read}
            for user, (configure, write, read) in RIGHTS.items()
        ],
        "exchanges": [
            {"name": name, "vhost": vhost, "type": kind, "durable": True, "auto_delete": False, "arguments": {}}
            for name, kind in EXCHANGES.items()
        ],
        "queues": [
            {"name": name, "vhost": vhost, "durable": True, "auto_delete": False, "arguments": arguments}
            for name, arguments in ((DEAD_LETTERS, QUEUE_ARGUMENTS), (ANNOUNCEMENTS, STREAM_ARGUMENTS))
        ],
        "bindings": [
            _binding(vhost, DEAD_LETTERS, "", {"x-match": "all"}),  # of no headers: everything
            _binding(vhost, ANNOUNCEMENTS, ANNOUNCEMENTS, {}),
        ],
        "policies": [
            _policy(vhost, "requests", r"^requests\.", _dead_lettering(DELIVERY_LIMIT)),
            _policy(vhost, "requests of other versions", OTHER_VERSIONS, _expiring(UNUSED_QUEUE_SECONDS), priority=1),
            _policy(vhost, "results", r"^results\.", _dead_lettering(RESULTS_DELIVERY_LIMIT)),
            _policy(vhost, DEAD_LETTERS, f"^{DEAD_LETTERS}$", {"max-length-bytes": DEAD_LETTERS_BYTES}),
        ],
    }


def _binding(vhost: str, name: str, routing_key: str, arguments: Mapping[str, str]) -> dict[str, Any]:
    """From an exchange to the queue of the same name."""
    between = {"source": name, "vhost": vhost, "destination": name, "destination_type": "queue"}
    return {**between, "routing_key": routing_key, "arguments": dict(arguments)}


def _policy(vhost: str, name: str, pattern: str, definition: Mapping[str, Any], priority: int = 0) -> dict[str, Any]:
    """A policy; of those that match a queue only the one with the highest priority applies."""
    common = {"vhost": vhost, "name": name, "pattern": pattern, "apply-to": "queues", "priority": priority}
    return {**common, "definition": dict(definition)}


def _dead_lettering(limit: int) -> dict[str, Any]:
    """RabbitMQ falls back to dead-lettering at most once, silently, unless all of these are set."""
    return {
        "delivery-limit": limit,
        "dead-letter-exchange": DEAD_LETTERS,
        "dead-letter-strategy": "at-least-once",
        "overflow": "reject-publish",
    }


def _expiring(seconds: int) -> dict[str, Any]:
    return {**_dead_lettering(DELIVERY_LIMIT), "expires": seconds * 1000}


def _password_hash(password: str) -> str:
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def server_configuration(definitions_file: str, listen: str, tls_directory: str | None = None) -> str:
    """The content of rabbitmq.conf.

    Args:
        definitions_file: path of the definitions, as the server sees it.
        listen: address and port to listen on, as `127.0.0.1:5672`, or a port alone for all addresses.
        tls_directory: directory with `ca.pem`, `certificate.pem` and `key.pem`, as the server sees it; None for
            connections without TLS.
    """
    lines = [
        f"load_definitions = {definitions_file}",
        f"consumer_timeout = {CONSUMER_TIMEOUT_SECONDS * 1000}",
        f"max_message_size = {MAX_BROKER_MESSAGE_BYTES}",
        "log.console = true",
        "log.console.level = warning",
    ]
    if tls_directory is None:
        lines.append(f"listeners.tcp.1 = {listen}")
    else:
        lines += [
            "listeners.tcp = none",
            f"listeners.ssl.1 = {listen}",
            f"ssl_options.cacertfile = {tls_directory}/ca.pem",
            f"ssl_options.certfile = {tls_directory}/certificate.pem",
            f"ssl_options.keyfile = {tls_directory}/key.pem",
            "ssl_options.versions.1 = tlsv1.3",
            "ssl_options.versions.2 = tlsv1.2",
        ]
    return "\n".join(lines) + "\n"


def kept_passwords(directory: Path) -> dict[str, str]:
    """The password of each user, from the files `directory`/USER that hold `USER:password`; made where one is missing.

    Only the owner may read them.
    """
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    passwords = {}
    for user in RIGHTS:
        path = directory / user
        if not path.exists():
            write_atomically(path, f"{user}:{secrets.token_urlsafe(24)}\n", mode=0o600)
        name, _, passwords[user] = path.read_text(encoding="utf-8").strip().partition(":")
        if name != user or not passwords[user]:
            raise UserError(f"{path}: must hold {user}:password; delete it to have a new one made")
    return passwords
