"""A RabbitMQ node as a plain process, on loopback only, with everything it writes in one directory."""

import os
import shutil
import socket
from pathlib import Path

from shared.errors import UserError

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
"""Where the server itself lies. What is on the path switches the user, and boots a node whatever its options."""
SERVER = PROGRAMS / "rabbitmq-server"
METRICS_PORT_ABOVE = 10_020
"""RabbitMQ's metrics are served so far above its own port: on 15692 for 5672, as is its custom."""


def check_installed() -> None:
    """Raises UserError where the program is missing."""
    if shutil.which("epmd") is None or not SERVER.exists():
        raise UserError(
            "RabbitMQ is missing; install rabbitmq-server (Debian, Ubuntu), or use containers: `make deploy`"
        )


def is_free(port: int) -> bool:
    """Whether we could listen on a port of 127.0.0.1."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port of 127.0.0.1 that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def node_environment(directory: Path, name: str, distribution_port: int, names_port: int) -> dict[str, str]:
    """All variables of a node called `name`, of which rabbitmq.conf and enabled_plugins lie in `directory`.

    `distribution_port` is for its command line tools, `names_port` for epmd, Erlang's name server, which comes with the
    node and outlives it. What isn't set here RabbitMQ would take from /etc/rabbitmq, where a file of the system's node
    may have it listen on all interfaces: the other files of a configuration are named, though there are none.
    """
    return {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "HOME": str(directory),
        "RABBITMQ_NODENAME": f"{name}@localhost",
        "RABBITMQ_DIST_PORT": str(distribution_port),
        "RABBITMQ_MNESIA_BASE": f"{directory}/data",
        "RABBITMQ_LOG_BASE": f"{directory}/log",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{directory}/enabled_plugins",
        "RABBITMQ_CONFIG_FILE": f"{directory}/rabbitmq.conf",
        "RABBITMQ_CONFIG_FILES": f"{directory}/conf.d",
        "RABBITMQ_ADVANCED_CONFIG_FILE": f"{directory}/advanced.config",
        "RABBITMQ_CONF_ENV_FILE": f"{directory}/rabbitmq-env.conf",
        "RABBITMQ_PID_FILE": f"{directory}/pid",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "ERL_EPMD_PORT": str(names_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
