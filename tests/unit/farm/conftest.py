"""A coordinator's farm whose other side is a script."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.coordinator.history import History
from tests.support.scripted import PLAN, ScriptedFarm


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    opened = History.create_or_resume(tmp_path / "history.sqlite", PLAN.about())
    yield opened
    opened.close()


@pytest.fixture
def world() -> ScriptedFarm:
    return ScriptedFarm(PLAN)
