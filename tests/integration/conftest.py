"""What the integration tests share: a real browser, a farm's broker and connections to it."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shared.broker.rabbitmq import RabbitBroker
from shared.errors import UserError
from tests.support.made_farm import MadeFarm, made_farm
from tests.support.rabbitmq import Join, Node, RabbitFarm

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.support.command import Run

FIXTURES = Path(__file__).parents[1] / "fixtures"
# Chromium's own housekeeping is switched off, so that whatever is requested was requested by the page.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium with an empty profile."""
    program = shutil.which("chromium")
    if program is None:
        reason = "chromium is missing: `make test` installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)

    from playwright.sync_api import sync_playwright

    # Playwright runs an event loop while it is open: it ends with the module, lest other tests find one running.
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, headless=True, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The `nasfarm` command in this process, with one thread and only the built-in data."""
    from tests.support.command import nasfarm  # loads torch, which not all tests here need

    monkeypatch.delenv("NASFARM_DATA", raising=False)
    monkeypatch.setenv("NASFARM_THREADS", "1")
    return lambda *arguments: nasfarm(capsys, monkeypatch, *arguments)


@pytest.fixture
def finished_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with finished runs in it and their super-networks."""
    shutil.copytree(FIXTURES / "format-4", tmp_path / "work", symlinks=True)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def without_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's report items, which an export is compared on, are on another machine."""

    def missing(*_: object) -> None:
        raise UserError("tasks.plain_facts: the data are on another machine")

    monkeypatch.setattr("services.application.export.report_items.load_items", missing)


@pytest.fixture
def farm(node: Node) -> RabbitFarm:
    """A fresh vhost with a farm's queues."""
    return node.farm()


@pytest.fixture
def local_farm(tmp_path: Path) -> Iterator[MadeFarm]:
    """A farm of processes as `make farm` brings it up, in the test's own directory."""
    with made_farm(tmp_path) as farm:
        yield farm


@pytest.fixture
def without_warnings() -> Iterator[None]:
    """No log lines below errors: libraries warn of much that is meant so here."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def join(farm: RabbitFarm) -> Iterator[Join]:
    """Connects a user of that farm; every connection is closed in the end."""
    joined: list[RabbitBroker] = []

    def join(user: str) -> RabbitBroker:
        joined.append(RabbitBroker(farm.address(user), f"test {user}"))
        joined[-1].connect(30)
        return joined[-1]

    yield join
    for broker in joined:
        broker.close()
