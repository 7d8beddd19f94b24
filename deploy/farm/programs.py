"""The programs of a farm on this machine: RabbitMQ, a coordinator for each search, evaluators of each super-network."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.farm.broker_files import broker_url
from deploy.farm.orphans import farm_variables
from deploy.farm.rabbitmq import SERVER, node_environment, stop_if_exposed
from deploy.farm.state import FarmDirectory, FarmSpec, Search
from deploy.farm.supervisor import Program
from shared.environment import usable_cores
from shared.failure_policy import BROKER_STOP_SECONDS, LEAVE_SECONDS, LOCAL_DRAIN_SECONDS

BROKER = "rabbitmq"
COORDINATOR = "coordinator-"
EVALUATOR = "evaluator-"


class FarmPrograms:
    """What is to run of a farm. `ports` are those that Erlang wants for itself: distribution, and names."""

    def __init__(self, directory: FarmDirectory, ports: tuple[int, int]) -> None:
        self._directory = directory
        self._broker_environment = node_environment(directory.broker_files, "nasfarm", *ports)

    def wanted(self, farm: FarmSpec, ended: Mapping[str, int]) -> list[Program]:
        """All programs. Evaluators are wanted as long as a search of their super-network has not ended, so that they
        don't keep memory and GPUs from others."""
        active = {search.supernet for search in farm.searches if coordinator(search) not in ended}
        served = {search.supernet: search for search in reversed(farm.searches) if search.supernet in active}
        # Threads by all super-networks: the end of one search doesn't restart the evaluators of another.
        threads = max(1, usable_cores() // max(1, farm.evaluators * len(farm.supernets)))
        return [
            self._broker(farm),
            *(self._coordinator(farm, search) for search in farm.searches),
            *(
                self._evaluator(farm, search, number, threads)
                for search in served.values()
                for number in range(1, farm.evaluators + 1)
            ),
        ]

    def _broker(self, farm: FarmSpec) -> Program:
        # As under systemd it is one process, which SIGTERM ends in order; else a shell stands between.
        environment = {
            **self._broker_environment,
            **farm_variables(self._directory.path),
            "RUNNING_UNDER_SYSTEMD": "true",
        }
        files = self._directory.broker_files
        return Program(
            BROKER,
            (str(SERVER),),
            environment,
            inherits=False,
            directory=files,
            listens=farm.port,
            stop_seconds=BROKER_STOP_SECONDS,
            objection=lambda: stop_if_exposed(files),
        )

    def _coordinator(self, farm: FarmSpec, search: Search) -> Program:
        command = ("search", str(self._directory.search_file(search.name)), "--runs", str(self._directory.runs))
        return Program(
            coordinator(search),
            (nasfarm(), *command, *self._connection(farm, "coordinator")),
            _service_environment(),
            finishes=True,
            begun=search.begun,
            needs=BROKER,
        )

    def _evaluator(self, farm: FarmSpec, search: Search, number: int, threads: int) -> Program:
        """An evaluator of the super-network of a search, which may serve other searches as well."""
        supernet = str(self._directory.supernet(search.name))
        threads_set = os.environ.get("NASFARM_THREADS") or str(threads)
        limit = os.environ.get("NASFARM_DRAIN_LIMIT") or str(LOCAL_DRAIN_SECONDS)
        return Program(
            f"{EVALUATOR}{search.supernet[:8]}-{number}",
            (nasfarm(), "evaluator", "--supernet", supernet, *self._connection(farm, "evaluator")),
            {**_service_environment(), "NASFARM_THREADS": threads_set, "NASFARM_DRAIN_LIMIT": limit},
            begun=farm.asked,
            needs=BROKER,
            stop_seconds=float(limit) + LEAVE_SECONDS,
        )

    def _connection(self, farm: FarmSpec, user: str) -> tuple[str, ...]:
        return ("--broker", broker_url(farm), "--credentials", str(self._directory.credentials / user))


def coordinator(search: Search) -> str:
    """Name of a search's coordinator."""
    return f"{COORDINATOR}{search.name}"


def nasfarm() -> str:
    """The command of the environment that we run in."""
    return str(Path(sys.executable).parent / "nasfarm")


def _service_environment() -> dict[str, str]:
    """Logs are read by people here; of several services on one machine none can have the usual port for metrics."""
    return {
        "NASFARM_LOG_FORMAT": os.environ.get("NASFARM_LOG_FORMAT") or "text",
        "NASFARM_TELEMETRY_PORT": "0",
    }
