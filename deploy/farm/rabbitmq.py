"""A RabbitMQ node as a plain process, on loopback only, with everything it writes in one directory."""

import os
import shlex
import shutil
import signal
from pathlib import Path

from deploy.farm.listeners import open_to_others
from deploy.farm.orphans import processes_started_with, send_signal
from shared.errors import UserError

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
"""Where the server itself lies. What is on the path switches the user, and boots a node whatever its options."""
SERVER = PROGRAMS / "rabbitmq-server"
HOME = "HOME"
"""The variable by which the processes of a node are found: no others have its directory as their home."""
METRICS_PORT_ABOVE = 10_020
"""RabbitMQ's metrics are served so far above its own port: on 15692 for 5672, as is its custom."""


def check_installed() -> None:
    """Raises UserError where the program is missing."""
    if shutil.which("epmd") is None or not SERVER.exists():
        raise UserError(
            "RabbitMQ is missing; install rabbitmq-server (Debian, Ubuntu), or use containers: `make deploy`"
        )


def path_within_node(directory: Path) -> str:
    """The path by which a node that is started in its `directory` reads it.

    RabbitMQ's disk monitor gives the path of its data to a shell without quotes (3.10: `df -kP ...`), and where it
    can't be read there is no alarm when the disk runs full. What a shell wouldn't take as one word is named by way of
    the kernel instead: the node and all that it starts have the directory as their working directory.
    """
    return str(directory) if shlex.quote(str(directory)) == str(directory) else "/proc/self/cwd"


def node_environment(directory: Path, name: str, distribution_port: int, names_port: int) -> dict[str, str]:
    """All variables of a node called `name`, of which rabbitmq.conf and enabled_plugins lie in `directory`.

    The node is started in `directory` and has no other variables: RabbitMQ and Erlang act on dozens of them
    (RABBITMQ_NODE_IP_ADDRESS, NODE_PORT, ERL_FLAGS ...). What isn't set here RabbitMQ would take from /etc/rabbitmq,
    where a file of the system's node may have it listen on all interfaces: the other files of a configuration are
    named, though there are none.

    `distribution_port` is for its command line tools, `names_port` for epmd, Erlang's name server, which comes with the
    node and outlives it.
    """
    seen = path_within_node(directory)
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        HOME: str(directory),
        "RABBITMQ_NODENAME": f"{name}@localhost",
        "RABBITMQ_DIST_PORT": str(distribution_port),
        "RABBITMQ_MNESIA_BASE": f"{seen}/data",
        "RABBITMQ_LOG_BASE": f"{seen}/log",
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{seen}/enabled_plugins",
        "RABBITMQ_CONFIG_FILE": f"{seen}/rabbitmq.conf",
        "RABBITMQ_CONFIG_FILES": f"{seen}/conf.d",
        "RABBITMQ_ADVANCED_CONFIG_FILE": f"{seen}/advanced.config",
        "RABBITMQ_CONF_ENV_FILE": f"{seen}/rabbitmq-env.conf",
        "RABBITMQ_PID_FILE": f"{seen}/pid",
        # Of every Erlang: the server, the one that it starts for a moment to have epmd started, the command line tools.
        "ERL_FLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "ERL_EPMD_PORT": str(names_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_CRASH_DUMP": f"{seen}/erl_crash.dump",
    }


def stop_if_exposed(directory: Path) -> str | None:
    """Kill a node of `directory`, epmd too, if it listens where others can reach it. Returns a line that says so."""
    node = processes_started_with(HOME, str(directory))
    addresses = open_to_others(node)
    if not addresses:
        return None
    for process in node:
        send_signal(process, signal.SIGKILL)
    return (
        f"RabbitMQ was stopped, as it listened on {', '.join(addresses)}, where others can reach it: remove what has "
        f"it do so from {directory} or from RabbitMQ's installation ({PROGRAMS})"
    )
