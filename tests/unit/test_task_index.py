"""lm-eval's index of tasks, kept on disk."""

from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager

from services.evaluator.tasks import index
from services.evaluator.tasks.index import task_manager

TASK = "task: {name}\ntag: my_tag\noutput_type: multiple_choice\n"


@pytest.fixture
def builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """An lm-eval of two tasks, a group and a tag; how often it was read grows this list."""
    folder = tmp_path / "lm_eval" / "tasks"
    (folder / "mine").mkdir(parents=True)
    for name in ("one", "two"):
        (folder / "mine" / f"{name}.yaml").write_text(TASK.format(name=name), encoding="utf-8")
    (folder / "both.yaml").write_text("group: both\ntask: [one, two]\n", encoding="utf-8")
    read: list[None] = []

    def manager(**settings: Any) -> TaskManager:
        if settings:
            return TaskManager(**settings)
        read.append(None)
        return TaskManager(include_defaults=False, include_path=str(folder))

    monkeypatch.setattr(index, "THEIRS", folder)
    monkeypatch.setattr(index, "TaskManager", manager)
    monkeypatch.setenv("NASFARM_CACHE", str(tmp_path / "cache"))
    return read


def found() -> dict[str, tuple[str, Path | None, set[str]]]:
    """The index as a process that has just started sees it."""
    entries = task_manager.__wrapped__().task_index
    return {name: (entry.kind.name, entry.yaml_path, entry.tags) for name, entry in entries.items()}


def test_lm_evals_files_are_read_once_for_all_processes(builds: list[None]) -> None:
    first = found()
    assert found() == first and len(builds) == 1
    folder = index.THEIRS
    assert first["one"] == ("TASK", folder / "mine" / "one.yaml", {"my_tag"})
    assert first["both"] == ("GROUP", folder / "both.yaml", set())
    assert first["my_tag"] == ("TAG", None, {"one", "two"})
    assert first["plain_facts"] == ("TASK", index.OWN / "plain_facts.yaml", set())


def test_an_installation_that_has_changed_is_read_again(builds: list[None]) -> None:
    found()
    (index.THEIRS / "three.yaml").write_text(TASK.format(name="three"), encoding="utf-8")
    assert "three" in found() and len(builds) == 2


@pytest.mark.parametrize("damage", ['{"one": ["TASK", "mi', "", '{"one": 7}', '{"one": ["TASK"]}', "7"])
def test_a_damaged_index_is_made_anew(damage: str, builds: list[None], tmp_path: Path) -> None:
    whole = found()
    (file,) = (tmp_path / "cache").rglob("*.json")
    file.write_text(damage, encoding="utf-8")
    assert found() == whole and len(builds) == 2
    assert found() == whole and len(builds) == 2


def test_where_nothing_can_be_kept_the_tasks_are_found_all_the_same(builds: list[None], tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "lm_eval_tasks").write_text("a file, no directory", encoding="utf-8")
    assert "one" in found() and "one" in found()
    assert len(builds) == 2
