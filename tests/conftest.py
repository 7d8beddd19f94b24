"""What tests of all kinds share: one RabbitMQ node."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Before anything reads it: what isn't here is not waited for, whether the hub can be reached or not.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tests.support.rabbitmq import Node, running_node

settings.register_profile("no deadline", deadline=None)  # a machine that is busy is no failure
settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running_node(tmp_path_factory.mktemp("rabbitmq")) as node:
        yield node
