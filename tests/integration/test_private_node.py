"""A farm's RabbitMQ on a machine where much would have it listen for everybody, or not watch its disk."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.farm.listeners import open_to_others
from deploy.farm.orphans import farm_processes, terminate_processes
from deploy.farm.ports import free_port, is_free
from deploy.farm.process_backend import ProcessBackend
from deploy.farm.programs import BROKER, FarmPrograms
from deploy.farm.state import FarmDirectory, FarmSpec
from deploy.farm.supervisor import ProcessState, Supervisor
from tests.support.command import search_file
from tests.support.made_farm import made_farm
from tests.support.namespaces import unshare
from tests.support.rabbitmq import START_SECONDS, require_rabbitmq

HOSTILE = {
    "RABBITMQ_NODE_IP_ADDRESS": "0.0.0.0",
    "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {0,0,0,0}",
    "RABBITMQ_SERVER_START_ARGS": '-rabbit tcp_listeners [{"0.0.0.0",{port}}]',
    "RABBITMQ_SERVER_ERL_ARGS": "+no_such_flag",
    "RABBITMQ_NODENAME": "somebody@elsewhere.invalid",
    "RABBITMQ_USE_LONGNAME": "true",
    "RABBITMQ_MNESIA_DIR": "/nonexistent",
    "RABBITMQ_PLUGINS_DIR": "/nonexistent",
    "RABBITMQ_BOOT_MODULE": "no_such_module",
    "NODE_IP_ADDRESS": "0.0.0.0",
    "SERVER_ADDITIONAL_ERL_ARGS": "+no_such_flag",
    "ERL_FLAGS": "+no_such_flag",
    "ERL_EPMD_ADDRESS": "0.0.0.0",
    "ERL_LIBS": "/nonexistent",
}
SYSTEMS = {
    "rabbitmq.conf": "listeners.tcp.system = 0.0.0.0:{port}\n",
    "conf.d/10-open.conf": "listeners.tcp.open = 0.0.0.0:{port}\n",
    "advanced.config": '[{rabbit, [{tcp_listeners, [{"0.0.0.0", {port}}]}]}].\n',
    "rabbitmq-env.conf": "NODE_IP_ADDRESS=0.0.0.0\nSERVER_ADDITIONAL_ERL_ARGS=+no_such_flag\n",
    "enabled_plugins": "[rabbitmq_management].\n",
}
"""What may lie in /etc/rabbitmq."""


class Private:
    """A farm that is nothing but its broker, in a directory that no shell takes as one word."""

    def __init__(self, path: Path) -> None:
        self.directory = FarmDirectory(path / "Ann's farm; $HOME #1" / ".farm", path / "runs")
        self.directory.make()
        self.port = free_port()
        farm = FarmSpec(backend="processes", port=self.port)
        ProcessBackend(self.directory).write_files(farm)
        (broker,) = FarmPrograms(self.directory, (free_port(), free_port())).wanted(farm, {})
        broker = replace(broker, command=(*_among_the_systems_files(path), *broker.command))
        self.supervisor = Supervisor(lambda _: [broker], self.directory.logs)

    def until(self, condition: Callable[[ProcessState], object]) -> ProcessState:
        deadline = time.monotonic() + START_SECONDS
        while True:
            self.supervisor.step()
            (state,) = self.supervisor.states()
            if condition(state):
                return state
            assert state.state != "ended" and not state.restarts and time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def log(self) -> str:
        return (self.directory.logs / f"{BROKER}.log").read_text()


def _among_the_systems_files(path: Path) -> list[str]:
    """What to put before a command so that it finds SYSTEMS in /etc/rabbitmq."""
    directory = path / "etc"
    for name, content in SYSTEMS.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(content.replace("{port}", str(free_port())))
    mount = 'mount --bind "$0" /etc/rabbitmq && exec "$@"'
    return [*unshare("--map-root-user", "--mount"), "sh", "-c", mount, str(directory)]


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Private]:
    require_rabbitmq()
    private = Private(tmp_path)
    try:
        yield private
    finally:
        private.supervisor.shut_down()
        private.supervisor.shut_down()
        while not private.supervisor.is_down:
            private.supervisor.step()
        terminate_processes(private.directory.path, 0)


def test_a_node_is_private_and_watches_its_disk_whatever_surrounds_it(
    private: Private, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value.replace("{port}", str(free_port())))
    private.until(lambda state: state.state == "running")
    node = farm_processes(private.directory.path)
    assert len(node) > 1  # RabbitMQ, and epmd with a session of its own
    assert open_to_others(node) == []
    assert "disk space monitor" not in private.log()  # it says there that it met an error, and tries ten times
    assert list((private.directory.broker_files / "data").iterdir())


def test_a_farm_whose_node_listens_for_others_all_the_same_is_refused_and_nothing_of_it_runs(tmp_path: Path) -> None:
    search = search_file(tmp_path)
    port, open_port = free_port(), free_port()
    with made_farm(tmp_path) as farm:
        added = farm.directory.broker_files / "conf.d" / "10-open.conf"
        added.parent.mkdir(parents=True)
        added.write_text(f"listeners.tcp.other = 0.0.0.0:{open_port}\n")
        refused = farm.run("farm", "--search", search, "--port", port)
        assert refused.returncode == 2
        line = refused.stdout.splitlines()[-1]
        assert line.startswith("farm: RabbitMQ doesn't start: RabbitMQ was stopped") and f"0.0.0.0:{open_port}" in line
        assert farm_processes(farm.directory.path) == []
        assert is_free(port) and is_free(open_port)
