"""What can't work in a study is said in one line, before anything is computed."""

import sys
from pathlib import Path
from typing import Any

import pytest

from services.application.study.cost import study_cost
from services.application.study.preparation import PreparedStudy, prepare_study
from services.application.study.reading import begin_history, searches_of
from services.application.study.study_directory import StudyDirectory
from services.application.supernet_store import SupernetStore
from services.coordinator.history import History
from services.coordinator.plan import SearchPlan
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events, Noted
from shared.messages import CheckpointRef
from shared.network.sizes import parameters, refitted_parameters
from shared.settings import parse_study
from tests.support.tiny_study import own_task, study_values


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


def test_calibration_data_that_the_model_has_no_chat_template_for_are_refused_by_their_own_name(
    directory: Path,
) -> None:
    chats = directory / "chats.jsonl"
    chats.write_text('{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}\n')
    with pytest.raises(UserError, match=r"calibration\.data: its rows are chats, but the tokenizer of .* has no chat"):
        prepare(directory, calibration={"data": str(chats)})


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


def begin(directory: Path, **changes: Any) -> None:
    """Leave of all searches of a study, and of the study, histories without measurements."""
    prepared = prepare(directory, **changes)
    runs = StudyDirectory(directory / "runs" / "tiny")
    for supernet, _, asked in searches_of(prepared.settings):
        first = prepared.first[supernet.name]
        plan = SearchPlan(
            settings=asked,
            space=first.space,
            supernet=CheckpointRef(location="gone", digest=supernet.name),
            base=first.base_reference,
            dtype="float32",
        )
        History.create_or_resume(runs.search(asked).history, plan.about()).close()
    begin_history(runs, prepared.settings, prepared.base_reference.digest).close()


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """Where a study on two tasks has begun."""
    begin(tmp_path, tasks=[TASK, own_task(tmp_path)])
    return tmp_path


def test_tasks_may_be_added_to_a_study_that_has_begun_left_out_and_put_in_another_order(begun: Path) -> None:
    pets, cats = own_task(begun), own_task(begun, "cats")
    for tasks in ([TASK, pets], [pets, TASK], [cats, TASK, pets], [TASK], [cats]):
        prepared = prepare(begun, tasks=tasks, sizes=[1.1, 1.2], search={"evaluations": 20, "population": 4})
        for name, first in prepared.first.items():
            assert StudyDirectory(begun / "runs" / "tiny").search(first.settings).history.is_file() is (tasks != [cats])
            assert name in first.settings.name


CHANGED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "other items": (
        {"tasks": [{**TASK, "report": {"items": 20}}]},
        ["tiny.paper.plain_facts: the search of paper on plain_facts began otherwise", "tasks was"],
    ),
    "another metric": ({"tasks": [{**TASK, "metric": "acc_norm"}]}, ["on plain_facts", "acc_norm"]),
    "another population": ({"search": {"evaluations": 8, "population": 6}}, ["search.population was 4, now 6"]),
    "other objectives": ({"objectives": ["bytes"]}, ["objectives was"]),
    "another margin": ({"reporting": {"margin": 3}}, ["reporting"]),
    "another precision": ({"dtype": "bfloat16"}, ["dtype was float32, now bfloat16"]),
    "no INT8 any more": ({"remeasure_int8": False}, ["remeasure_int8 was"]),
    "other fine-tuning": (
        {"supernets": space(), "heuristics": []},
        ["tiny.ours.plain_facts", "super-network that is gone"],
    ),
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_cannot_go_on_is_said_before_anything_of_it_is_changed(begun: Path, what: str) -> None:
    changes, words = CHANGED[what]
    before = files(begun / "runs")
    with pytest.raises(UserError) as told:
        prepare(begun, **changes)
    message = str(told.value)
    assert "\n" not in message and "change `name`" in message
    assert all(word in message for word in words), message
    assert files(begun / "runs") == before


def test_where_another_task_would_be_timed_by_default_than_before_one_is_told_to_name_it(tmp_path: Path) -> None:
    served = {"batch": 1, "prompt_tokens": 16, "generated_tokens": 4}
    swapped = [own_task(tmp_path), TASK]
    begin(tmp_path, tasks=[TASK, own_task(tmp_path)], serving=served)
    with pytest.raises(UserError, match=r"serving was not set.*name the task that was timed before as `timed_task`"):
        prepare(tmp_path, tasks=swapped, serving=served)
    prepare(tmp_path, tasks=swapped, serving=served, timed_task="plain_facts")


def test_a_study_s_measurements_are_those_of_one_model(begun: Path) -> None:
    settings = parse_study(study_values(begun, name="other"), "study")
    runs = StudyDirectory(begun / "runs" / "other")
    begin_history(runs, settings, "another").close()
    environment = Environment(data=None, cache=begun / "cache", threads=1)
    with pytest.raises(UserError, match=r"study\.sqlite: was measured of another model \(base was another, now "):
        prepare_study(settings, runs, SupernetStore(begun / "supernets"), environment, Events(), on_farm=False)


def test_what_a_study_is_going_to_cost_counts_what_is_not_there_yet(directory: Path) -> None:
    prepared, runs = prepare(directory), StudyDirectory(directory / "runs" / "costs")
    whole = sum(tensor.nbytes for tensor in prepared.base.weights.values())
    base = prepared.base.network
    supernets = 4 + refitted_parameters(base, (24, 18, 12)) / parameters(base)  # both twice; ours refitted where tuned
    assert supernets > 4
    cost = study_cost(prepared, runs, set(), None, rate=1e9)
    tokens = {line.stage: line.tokens for line in cost.lines}
    assert list(tokens) == [
        "Super-networks",
        "Searches",
        "Candidates",
        "Baselines",
        "Fine-tunings",
        "Report",
    ]
    assert tokens["Super-networks"] == 2 * 4 * 256 and tokens["Fine-tunings"] == 4 * 4 * 256
    assert cost.disk == round(supernets * whole + 8 * whole / 1.1)  # 2 baselines, 2 tuned, 4 alone
    number = next(line.number for line in cost.lines if line.stage == "Candidates")
    assert number == "4 networks measured"  # two of each search
    for name in ("one", "another"):
        (runs.networks / name).mkdir(parents=True)
    left = study_cost(prepared, runs, {asked.name for _, _, asked in searches_of(prepared.settings)}, 5, rate=1e9)
    assert [line.stage for line in left.lines] == ["Super-networks", "Baselines", "Report"]
    assert left.disk == round(supernets * whole + 6 * whole / 1.1)
    assert left.seconds < cost.seconds


def files(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()}
