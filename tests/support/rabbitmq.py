"""A private RabbitMQ node, on loopback only, with a vhost for each test; it can be killed and restarted."""

import base64
import itertools
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pika
import pytest
import trustme

from deploy.farm.ports import free_port
from deploy.farm.rabbitmq import PROGRAMS, SERVER, check_installed, node_environment, path_within_node, stop_if_exposed
from shared.broker import requests_queue, results_queue
from shared.broker.address import BrokerAddress
from shared.broker.rabbitmq import RabbitBroker, add_queues
from shared.broker.rabbitmq.client import parameters
from shared.broker.topology import RIGHTS, definitions, server_configuration
from shared.errors import UserError
from shared.failure_policy import SETTLE_SECONDS

ADMINISTRATOR = "administrator"
START_SECONDS = 240


class Node:
    """The node's files lie in `directory`; users are those of the farm, with an administrator for the tests."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        ports = (free_port() for _ in range(5))
        self.port, self.tls_port, self._http_port, self._epmd_port, self._distribution_port = ports
        self.passwords = {user: f"{user}'s secret" for user in (*RIGHTS, ADMINISTRATOR)}
        self.authority = directory / "tls" / "ca.pem"
        self._vhosts = itertools.count()
        self._server: subprocess.Popen[bytes] | None = None
        self._write_files()

    def _write_files(self) -> None:
        tls = self.directory / "tls"
        tls.mkdir()
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.authority)
        certificate = authority.issue_cert("localhost")
        certificate.private_key_pem.write_to_path(tls / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(tls / "certificate.pem")

        held = definitions(self.passwords)
        administrator = {"name": ADMINISTRATOR, "password": self.passwords[ADMINISTRATOR], "tags": [ADMINISTRATOR]}
        held["users"].append(administrator)
        (self.directory / "definitions.json").write_text(json.dumps(held))
        listen = f"127.0.0.1:{self.tls_port}"
        seen = path_within_node(self.directory)
        configuration = server_configuration(f"{seen}/definitions.json", listen, f"{seen}/tls")
        configuration = configuration.replace("listeners.tcp = none", f"listeners.tcp.1 = 127.0.0.1:{self.port}")
        configuration += f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {self._http_port}\n"
        (self.directory / "rabbitmq.conf").write_text(configuration)
        (self.directory / "enabled_plugins").write_text("[rabbitmq_management].")

    @property
    def _environment(self) -> dict[str, str]:
        return node_environment(self.directory, f"test{self.port}", self._distribution_port, self._epmd_port)

    def start(self) -> None:
        """Returns when users can log in."""
        log = (self.directory / "output").open("ab")
        with log:
            self._server = subprocess.Popen(
                [SERVER],
                env=self._environment,
                cwd=self.directory,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if time.monotonic() > deadline or self._server.poll() is not None:
                pytest.fail(f"RabbitMQ doesn't start: {(self.directory / 'output').read_text()[-2000:]}", pytrace=False)
            time.sleep(0.1)
        if (reason := stop_if_exposed(self.directory)) is not None:
            pytest.fail(reason, pytrace=False)

    def _ready(self) -> bool:
        try:
            self.http("GET", "/api/overview")
            with socket.create_connection(("127.0.0.1", self.port), 1):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        """As `kill -9`, and all of its children."""
        assert self._server is not None
        os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()
        self._server = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """As a machine that hangs: connections stay open and are not answered."""
        assert self._server is not None
        os.killpg(self._server.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._server.pid, signal.SIGCONT)

    def end(self) -> None:
        if self._server is not None:
            self.kill()
        deadline = time.monotonic() + 10
        while self._kill_epmd().returncode and time.monotonic() < deadline:
            time.sleep(0.2)

    def _kill_epmd(self) -> subprocess.CompletedProcess[bytes]:
        """End the name server that came with the node; it refuses as long as it thinks that the node lives."""
        command = ["epmd", "-port", str(self._epmd_port), "-kill"]
        return subprocess.run(command, env=self._environment, check=False, capture_output=True)

    def control(self, *arguments: str) -> None:
        """Run rabbitmqctl."""
        command = [PROGRAMS / "rabbitmqctl", "--quiet", *arguments]
        subprocess.run(command, env=self._environment, cwd=self.directory, check=True, capture_output=True, timeout=60)

    def http(self, method: str, path: str, content: Any = None, user: str = ADMINISTRATOR) -> Any:
        """Ask the management API. Raises OSError where it doesn't answer or refuses."""
        login = base64.b64encode(f"{user}:{self.passwords[user]}".encode()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._http_port}{path}",
            method=method,
            data=None if content is None else json.dumps(content).encode(),
            headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def farm(self) -> "RabbitFarm":
        """A fresh vhost with the topology of a farm, and queues for the super-network `net` and the search `one`."""
        vhost = f"farm-{next(self._vhosts)}"
        held = definitions(self.passwords, vhost)
        self.http("POST", "/api/definitions", {key: value for key, value in held.items() if key != "users"})
        farm = RabbitFarm(self, vhost)
        farm.add_queues(farm.requests, farm.results)
        return farm


ALARMS = {
    "memory": (("set_vm_memory_high_watermark", "0.000001"), ("set_vm_memory_high_watermark", "0.4")),
    "disk": (("set_disk_free_limit", "1000000GB"), ("set_disk_free_limit", "50MB")),
}
"""What raises a node's alarm, and what ends it."""


@contextmanager
def alarmed(node: Node, alarm: str) -> Iterator[None]:
    """A node without room, which takes no messages."""
    raising, ending = ALARMS[alarm]
    node.control(*raising)
    try:
        yield
    finally:
        node.control(*ending)


Join = Callable[[str], RabbitBroker]
"""Connects a user: coordinator, evaluator, operator, monitoring."""


class RabbitFarm:
    """A vhost of a node."""

    requests, results = requests_queue("net"), results_queue("one")

    def __init__(self, node: Node, vhost: str) -> None:
        self.node, self.vhost = node, vhost
        self._queues_added = time.monotonic()

    def add_queues(self, *names: str) -> None:
        """Add queues, as the operator."""
        add_queues(self.address("operator"), names)
        self._queues_added = time.monotonic()

    def settle(self) -> None:
        """Wait until the newest queue outlives its node."""
        time.sleep(max(0.0, self._queues_added + SETTLE_SECONDS - time.monotonic()))

    def address(self, user: str, port: int | None = None) -> BrokerAddress:
        return BrokerAddress("127.0.0.1", port or self.node.port, self.vhost, user, self.node.passwords[user])


def publish_as(address: BrokerAddress, exchange: str, queue: str, body: bytes, **properties: Any) -> None:
    """Publish whatever a user likes, with these properties, and wait until the broker has it or refuses."""
    connection = pika.BlockingConnection(parameters(address, "raw"))
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(exchange, queue, body, pika.BasicProperties(**properties))
    finally:
        if connection.is_open:
            connection.close()


def require_rabbitmq() -> None:
    """Skip the test where the program is missing, or fail it with CI=true."""
    try:
        check_installed()
    except UserError:
        reason = "rabbitmq-server is missing: `make test` installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@contextmanager
def running_node(directory: Path) -> Iterator[Node]:
    """A node for the tests of a session. Where the program is missing tests are skipped, or fail with CI=true."""
    require_rabbitmq()
    node = Node(directory)
    try:
        node.start()
        yield node
    finally:
        node.end()
