"""What can't work in a study is said in one line, before anything is computed."""

import sys
from pathlib import Path
from typing import Any

import pytest

from services.application.study.preparation import PreparedStudy, prepare_study
from services.application.study.study_directory import StudyDirectory
from services.application.supernet_store import SupernetStore
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events, Noted
from shared.settings import parse_study
from tests.support.tiny_study import study_values


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a model and training data are; nothing is made there."""
    return tmp_path_factory.mktemp("study")


def prepare(directory: Path, on_farm: bool = False, **changes: Any) -> PreparedStudy:
    settings = parse_study(study_values(directory, **changes), "study")
    environment = Environment(data=None, cache=directory / "cache", threads=1)
    runs, store = StudyDirectory(directory / "runs" / "tiny"), SupernetStore(directory / "supernets")
    return prepare_study(settings, runs, store, environment, Events(), on_farm)


def space(**changes: Any) -> list[dict[str, Any]]:
    given = {"depths": [5, 4], "mlp_widths": [24, 12], **changes}
    return [{"name": "ours", "space": given, "training": {"data": "plain_facts", "steps": 2}}]


TASK = {"name": "plain_facts", "search": {"items": 12}, "report": {"items": 16}}

WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a model that isn't there": ({"model": "/nowhere/model"}, ["/nowhere/model"]),
    "a task that isn't there": ({"tasks": [{**TASK, "name": "no_such_task"}]}, ["no_such_task"]),
    "too few items to search": ({"tasks": [{**TASK, "search": {"items": 10**6}}]}, ["plain_facts", "items"]),
    "too few items to report": ({"tasks": [{**TASK, "report": {"items": 10**6}}]}, ["plain_facts", "items"]),
    "a metric that the task lacks": ({"tasks": [{**TASK, "metric": "exact_match"}]}, ["exact_match"]),
    "more layers than the model has": (
        {"supernets": space(depths=[9]), "heuristics": []},
        ["supernets.ours.space.depths", "9"],
    ),
    "wider MLPs than the model has": (
        {"supernets": space(mlp_widths=[1000]), "heuristics": []},
        ["supernets.ours.space.mlp_widths"],
    ),
    "training data that aren't there": (
        {"supernets": [{**space()[0], "training": {"data": "/nowhere.jsonl"}}], "heuristics": []},
        ["supernets.ours.training.data", "/nowhere.jsonl"],
    ),
    "a size that a super-network can't have": ({"sizes": [1.1, 50]}, ["sizes: 50", "paper"]),
    "a size that a baseline can't reach": (
        {"sizes": [1.5], "supernets": space(depths=[1], depth_rule="first"), "heuristics": []},
        ["baselines, 1.5 times smaller", "magnitude"],
    ),
    "calibration data that aren't there": (
        {"calibration": {"data": "/nowhere.jsonl"}},
        ["calibration.data", "/nowhere.jsonl"],
    ),
    "a heuristic of layers that the model lacks": (
        {"heuristics": [{"name": "theirs", "supernet": "ours", "depth": 4, "layers": [7]}]},
        ["heuristics.theirs.layers", "7"],
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_work_is_said_in_one_line_before_anything_is_made(directory: Path, what: str) -> None:
    changes, words = WRONG[what]
    with pytest.raises(UserError) as told:
        prepare(directory, **changes)
    message = str(told.value)
    assert "\n" not in message
    assert all(word in message for word in words), message
    assert not (directory / "supernets").exists() and not (directory / "runs").exists()


def test_a_study_that_can_work_is_prepared(directory: Path) -> None:
    prepare(directory)


@pytest.mark.parametrize(("tokens_per_step", "same"), [([256, 256], (True, True)), ([256, 128], (True, False))])
def test_super_networks_that_train_on_the_same_data_hold_them_once(
    directory: Path, tokens_per_step: list[int], same: tuple[bool, bool]
) -> None:
    supernets = study_values(directory)["supernets"]
    for supernet, tokens in zip(supernets, tokens_per_step, strict=True):
        supernet["training"] = {**supernet["training"], "tokens_per_step": tokens}
    study = prepare(directory, supernets=supernets)
    one, other = (each.training.data for each in study.first.values() if each.training is not None)
    assert (one.instructions is other.instructions, one.examples is other.examples) == same
    assert other.examples and all(len(each.tokens) <= tokens_per_step[1] for each in other.examples)


@pytest.mark.parametrize(("tokens", "told"), [(10**6, True), (512, False)])
def test_calibration_data_that_have_fewer_tokens_than_asked_for_are_told_of(
    directory: Path, tokens: int, told: bool
) -> None:
    settings = parse_study(study_values(directory), "study")
    asked = settings.calibration.model_copy(update={"tokens": tokens})
    environment, notes = Environment(data=None, cache=directory / "cache", threads=1), list[str]()
    events = Events(lambda event: notes.append(event.text) if isinstance(event, Noted) else None)
    prepare_study(
        settings.model_copy(update={"calibration": asked}),
        StudyDirectory(directory / "runs" / "tiny"),
        SupernetStore(directory / "supernets"),
        environment,
        events,
        on_farm=False,
    )
    assert (f"all that these data have, of the {tokens:,} of calibration.tokens" in notes) == told


def test_without_peft_a_study_with_lora_is_refused_and_one_without_is_not(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"fine_tuning\.lora: slicegpt: .*pip install peft"):
        prepare(directory)
    prepare(directory, fine_tuning={"lora": []})


def test_a_farm_gets_no_tasks_from_files(directory: Path, tmp_path: Path) -> None:
    task = tmp_path / "mine.yaml"
    task.write_text("task: mine\n")
    with pytest.raises(UserError, match="read no tasks from files"):
        prepare(directory, on_farm=True, tasks=[{**TASK, "name": str(task)}])
