"""What tests of all kinds share: one RabbitMQ node, and where several processes take one file after the other, their
order and the server off which commands are forked."""

import os
from collections.abc import Iterator
from itertools import chain, groupby, zip_longest
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Before anything reads it: what isn't here is not waited for, whether the hub can be reached or not.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tests.support.forked import shared_server, use_server
from tests.support.rabbitmq import Node, running_node

settings.register_profile("no deadline", deadline=None)  # a machine that is busy is no failure
settings.load_profile("no deadline")


WAITING = Path(__file__).parent / "integration"
BETWEEN = 3
"""Files that compute, after each that waits: few enough that only short ones are left for the end."""


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """In the process that has others do the tests, before it starts one of them."""
    node.workerinput["server"] = shared_server()


def pytest_configure(config: pytest.Config) -> None:
    """In one of those that do them."""
    server = getattr(config, "workerinput", {}).get("server")
    if server is not None:
        use_server(server)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes take one file after the other: files of which most of the time is waiting for other
    processes, brokers and browsers stand between those that compute, so that no core is idle."""
    if not hasattr(config, "workerinput"):
        return
    files = [list(tests) for _, tests in groupby(items, key=lambda item: item.path)]
    waiting = [tests for tests in files if WAITING in tests[0].path.parents]
    computing = [tests for tests in files if WAITING not in tests[0].path.parents]
    groups = (chain(*computing[start : start + BETWEEN]) for start in range(0, len(computing), BETWEEN))
    items[:] = chain.from_iterable(chain(*pair) for pair in zip_longest(waiting, groups, fillvalue=()))


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running_node(tmp_path_factory.mktemp("rabbitmq")) as node:
        yield node
