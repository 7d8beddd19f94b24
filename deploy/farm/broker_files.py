"""What a farm's RabbitMQ needs before it starts: passwords, made once and kept; definitions and configuration."""

import json
import time
from collections.abc import Callable

from deploy.farm.state import FarmDirectory, FarmSpec
from shared.broker import BrokerUnreachableError
from shared.broker.address import BrokerAddress
from shared.broker.rabbitmq import add_queues
from shared.broker.topology import VHOST, definitions, kept_passwords, server_configuration
from shared.errors import UserError
from shared.failure_policy import BROKER_START_SECONDS
from shared.files import write_atomically


def write_broker_files(
    directory: FarmDirectory, listen: str, seen_as: str | None = None, more_configuration: str = ""
) -> None:
    """Write `rabbitmq/definitions.json` and `rabbitmq/rabbitmq.conf`, with the passwords of `credentials/`.

    Args:
        directory: the farm's.
        listen: what RabbitMQ listens on: `127.0.0.1:5672`, or a port alone for all addresses.
        seen_as: where RabbitMQ sees the directory of the two files, if not where they are.
        more_configuration: further lines of rabbitmq.conf.
    """
    passwords = kept_passwords(directory.credentials)
    files = directory.broker_files
    write_atomically(files / "definitions.json", json.dumps(definitions(passwords), indent=2) + "\n")
    configuration = server_configuration(f"{seen_as or files}/definitions.json", listen)
    write_atomically(files / "rabbitmq.conf", configuration + more_configuration)


def broker_url(farm: FarmSpec) -> str:
    """Where the farm's broker is, for programs of this machine."""
    return f"amqp://127.0.0.1:{farm.port}/{VHOST}"


def operator_address(directory: FarmDirectory, farm: FarmSpec) -> BrokerAddress:
    """The broker's address, for adding queues and reading how the farm is."""
    return BrokerAddress.parse(broker_url(farm), directory.credentials / "operator")


def wait_for_broker(directory: FarmDirectory, farm: FarmSpec, obstacle: Callable[[], str | None]) -> None:
    """Return when the broker lets the operator in.

    `obstacle` returns why it never will, or None while it may. Raises UserError with that reason, or after
    BROKER_START_SECONDS.
    """
    address = operator_address(directory, farm)
    deadline = time.monotonic() + BROKER_START_SECONDS
    while True:
        try:
            return add_queues(address, [])
        except BrokerUnreachableError as error:
            reason = obstacle()
            if reason is not None or time.monotonic() > deadline:
                raise UserError(f"RabbitMQ doesn't start: {reason or error}") from error
        time.sleep(0.3)
