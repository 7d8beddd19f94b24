"""Benchmark data as people have them: which are taken, and what is said of those that aren't."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from services.evaluator.tasks.index import include_tasks, task_manager
from services.evaluator.tasks.loading import load_items
from shared.errors import UserError
from shared.messages import TaskItems
from tests.support.tasks import register

PIQA = {"goal": "To dry hands,", "sol1": "use a towel", "sol2": "use a brick", "label": 0}
ARC = {
    "id": "1",
    "question": "What is wet?",
    "choices": {"text": ["water", "sand"], "label": ["A", "B"]},
    "answerKey": "A",
}
OPENBOOK = {"id": "1", "question_stem": "Water is", "choices": ARC["choices"], "answerKey": "B"}
BOOLQ = {"question": "is water wet", "passage": "Water is wet.", "label": 1}


def write(directory: Path, name: str, *rows: Any) -> Path:
    file = directory / f"{name}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def golds(directory: Path, task: str, count: int = 1, **asked: Any) -> list[tuple[int, ...]]:
    """The right choices of a task's items, in the order of the file."""
    documents = load_items(TaskItems(task=task, stop=count, **asked), directory).documents
    return [document.golds() for document in sorted(documents, key=lambda document: document.index)]


def refusal(directory: Path, task: str, count: int = 1, **asked: Any) -> str:
    with pytest.raises(UserError) as refused:
        golds(directory, task, count, **asked)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("label", "gold"), [(1, 1), ("1", 1), (1.0, 1), ("0.0", 0), ("B", 1), ("a", 0), (True, 1), ("false", 0)]
)
def test_a_label_may_be_spelt_in_any_plain_way(tmp_path: Path, label: object, gold: int) -> None:
    write(tmp_path / "piqa", "validation", PIQA | {"label": label})
    assert golds(tmp_path, "piqa") == [(gold,)]
    (document,) = load_items(TaskItems(task="piqa", stop=1), tmp_path).documents
    assert document.metrics([(-1.0, False), (-2.0, False)])["acc"] == (gold == 0)


def test_labels_of_one_file_may_be_spelt_in_different_ways(tmp_path: Path) -> None:
    write(tmp_path / "piqa", "validation", *(PIQA | {"label": label} for label in (0, "1", 1.0, "B", True)))
    assert golds(tmp_path, "piqa", 5) == [(0,), (1,), (1,), (1,), (1,)]


@pytest.mark.parametrize(
    ("label", "complaint"),
    [
        (2, "label names the right answer 2, which is not one of the 2 choices; fix or remove it"),
        ("C", "label names the right answer C, which is not one of the 2 choices; fix or remove it"),
        ("brick", "label names the right answer brick, which is not one of the 2 choices; fix or remove it"),
        (0.5, "label names the right answer 0.5, which is not one of the 2 choices; fix or remove it"),
        (-1, "has no right answer (label is -1): choose a split with labels"),
        ("", "has no right answer (label is ''): choose a split with labels"),
        (None, "has no right answer (label is None): choose a split with labels"),
    ],
)
@pytest.mark.parametrize("number", [1, 2])
def test_a_label_that_names_no_choice_is_refused_by_file_row_and_field(
    tmp_path: Path, label: object, complaint: str, number: int
) -> None:
    rows = [PIQA | {"goal": "To sleep,"}, PIQA | {"label": label}][:: -1 if number == 1 else 1]
    file = write(tmp_path / "piqa", "validation", *rows)
    assert refusal(tmp_path, "piqa", 2).startswith(f"tasks.piqa: {file}:{number}: ")
    assert refusal(tmp_path, "piqa", 2).endswith(complaint)


def test_a_missing_label_is_refused(tmp_path: Path) -> None:
    bad = {field: value for field, value in PIQA.items() if field != "label"}
    file = write(tmp_path / "piqa", "validation", bad)
    assert refusal(tmp_path, "piqa") == (
        f"tasks.piqa: {file}:1: label names the right answer label, which is not one of the 2 choices; fix or remove it"
    )


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"answerKey": "C"}, r"fails on it \(ValueError: 'C' is not in list\)"),
        ({"answerKey": ""}, r"fails on it \(ValueError"),
        ({"answerKey": None}, r"fails on it \("),
        ({"choices": None}, r"fails on it \("),
        ({"choices": {"text": [], "label": []}}, r"fails on it \(|gives no choices"),
        ({"choices": {"text": ["water", None], "label": ["A", "B"]}}, "choice 2 of .* is None, not a text"),
        ({"question": None}, "question is null"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_row_that_lacks_something_is_refused_by_file_and_row(
    tmp_path: Path, changes: dict[str, Any], complaint: str, first: bool
) -> None:
    other = ARC | {"question": "What is dry?"}
    rows = [ARC | changes, other] if first else [other, ARC | changes]
    file = write(tmp_path / "arc_easy", "validation", *rows)
    found = refusal(tmp_path, "arc_easy", 2, split="validation")
    assert found.startswith(f"tasks.arc_easy: {file}:{1 if first else 2}: ")
    assert re.search(complaint, found)


def test_numbers_are_choices_as_they_are_written(tmp_path: Path) -> None:
    write(tmp_path / "piqa", "validation", PIQA | {"sol1": 3, "sol2": 4.5})
    (document,) = load_items(TaskItems(task="piqa", stop=1), tmp_path).documents
    assert [request.args[1] for request in document.requests()] == [" 3", " 4.5"]
    assert document.metrics([(-1.0, False), (-9.0, False)]) == {"acc": 1, "acc_norm": 1}


def test_a_field_of_two_forms_is_refused_by_row(tmp_path: Path) -> None:
    file = write(tmp_path / "piqa", "validation", PIQA, PIQA | {"goal": ["To", "dry"]})
    assert refusal(tmp_path, "piqa") == (
        f"{file}:2: goal is of type list, and of type str before; fix or remove the row"
    )


@pytest.mark.parametrize("row", [PIQA | {"goal": "\ud800"}, PIQA | {"extra": {"deep": ["\udfff"]}}])
def test_a_lone_surrogate_is_refused_by_row_and_field(tmp_path: Path, row: dict[str, Any]) -> None:
    file = write(tmp_path / "piqa", "validation", PIQA, row)
    assert re.match(rf"{file}:2: (goal|extra) is not valid Unicode", refusal(tmp_path, "piqa"))


@pytest.mark.parametrize(
    ("task", "folder", "split", "row", "gold"),
    [
        ("piqa", "piqa", "validation", PIQA, 0),
        ("openbookqa", "openbookqa", "test", OPENBOOK, 1),
        ("openbookqa", "openbookqa/main", "test", OPENBOOK, 1),
        (
            "openbookqa",
            "openbookqa",
            "test",
            {
                "id": "1",
                "question": {
                    "stem": "Water is",
                    "choices": [{"text": "dry", "label": "A"}, {"text": "wet", "label": "B"}],
                },
                "answerKey": "B",
            },
            1,
        ),
        ("boolq", "boolq", "validation", BOOLQ, 1),
        ("boolq", "super_glue/boolq", "validation", BOOLQ, 1),
        ("boolq", "boolq", "validation", {"question": "is water dry", "passage": "No.", "answer": False}, 0),
    ],
)
def test_the_evaluated_split_is_enough_in_either_schema(
    tmp_path: Path, task: str, folder: str, split: str, row: dict[str, Any], gold: int
) -> None:
    write(tmp_path / folder, split, row)
    assert golds(tmp_path, task) == [(gold,)]


def test_examples_from_a_split_that_is_not_there_are_refused_with_its_file(tmp_path: Path) -> None:
    write(tmp_path / "piqa", "validation", PIQA)
    assert refusal(tmp_path, "piqa", num_fewshot=1) == (
        f"tasks.piqa: num_fewshot is 1, but {tmp_path / 'piqa' / 'train.jsonl'} is missing, from which examples come; "
        "put the file there, or ask for 0"
    )


def test_an_evaluated_split_that_is_not_there_is_refused_with_its_file_unless_another_is_named(tmp_path: Path) -> None:
    write(tmp_path / "openbookqa", "validation", OPENBOOK)
    assert refusal(tmp_path, "openbookqa") == (
        f"tasks.openbookqa: {tmp_path / 'openbookqa' / 'test.jsonl'} is missing, there are only the splits validation; "
        "put the file there, or name another split"
    )
    assert golds(tmp_path, "openbookqa", split="validation") == [(1,)]


def test_data_that_are_nowhere_are_refused_with_where_they_were_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    found = refusal(tmp_path, "boolq")
    for folder in ("super_glue/boolq", "super_glue", "boolq"):
        assert str(tmp_path / folder / "validation.jsonl") in found


def test_parquet_and_csv_files_will_do(tmp_path: Path) -> None:
    (tmp_path / "piqa" / "data").mkdir(parents=True)
    Dataset.from_list([PIQA, PIQA | {"label": 1}]).to_parquet(
        tmp_path / "piqa" / "data" / "validation-00000-of-00001.parquet"
    )
    with (tmp_path / "piqa" / "train.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, PIQA)
        writer.writeheader()
        writer.writerows([PIQA | {"goal": "To rest, and\nto sleep,"}, PIQA])
    assert golds(tmp_path, "piqa", 2) == [(0,), (1,)]
    (document,) = load_items(TaskItems(task="piqa", stop=1, split="train", num_fewshot=1), tmp_path).documents
    assert "Question: To dry hands,\nAnswer: use a towel\n\n" in document.context or "To rest" in document.context


@pytest.mark.parametrize("shots", [2, 3, 4])
def test_more_examples_than_the_training_split_has_are_refused_with_their_number(tmp_path: Path, shots: int) -> None:
    write(tmp_path / "openbookqa", "train", *[OPENBOOK | {"id": str(number)} for number in range(3)])
    write(tmp_path / "openbookqa", "test", OPENBOOK)
    if shots == 4:
        complaint = "tasks.openbookqa: num_fewshot is 4, there are 3 examples; ask for fewer"
        assert refusal(tmp_path, "openbookqa", num_fewshot=shots) == complaint
    else:
        assert golds(tmp_path, "openbookqa", num_fewshot=shots) == [(1,)]


@pytest.mark.parametrize("shots", [2, 3, 4])
def test_one_example_too_many_is_refused_where_lm_eval_keeps_one_back(tmp_path: Path, shots: int) -> None:
    write(tmp_path / "piqa", "train", *[PIQA | {"goal": f"To do {number},"} for number in range(3)])
    write(tmp_path / "piqa", "validation", PIQA)
    if shots > 2:
        complaint = f"num_fewshot is {shots}, there are 3 examples, of which lm-eval keeps one back; ask for 2 at most"
        assert refusal(tmp_path, "piqa", num_fewshot=shots) == f"tasks.piqa: {complaint}"
    else:
        assert golds(tmp_path, "piqa", num_fewshot=shots) == [(0,)]


@pytest.mark.parametrize("sampler", ["default", "first_n"])
def test_an_item_is_no_example_to_itself_where_both_come_from_one_split(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sampler: str
) -> None:
    config = {
        "output_type": "multiple_choice",
        "doc_to_text": "{{goal}}",
        "doc_to_choice": "{{[sol1, sol2]}}",
        "doc_to_target": "label",
        "fewshot_config": {"sampler": sampler, "split": "test"},
    }
    register(monkeypatch, "own", [PIQA | {"goal": f"To do {number},"} for number in range(3)], **config)
    assert refusal(tmp_path, "own", 3, num_fewshot=3) == (
        "tasks.own: num_fewshot is 3, there are 3 examples, of which lm-eval keeps one back; ask for 2 at most"
    )
    documents = load_items(TaskItems(task="own", stop=3, num_fewshot=2), tmp_path).documents
    for document in documents:
        assert document.context.count("To do") == 3  # type: ignore[union-attr]
        assert document.context.count(document.doc["goal"]) == 1  # type: ignore[union-attr]


def test_examples_that_a_task_does_not_take_are_spoken_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"output_type": "multiple_choice", "doc_to_text": "{{goal}}", "doc_to_choice": "{{[sol1, sol2]}}"}
    register(monkeypatch, "fixed", [PIQA], **config, doc_to_target="label", num_fewshot=0)
    assert golds(tmp_path, "fixed", num_fewshot=5) == [(0,)]
    assert "tasks.fixed: num_fewshot is 5, but the task fixes it at 0: no examples are given" in caplog.text


OWN_TASK = """\
task: own_questions
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{goal}}}}"
doc_to_choice: "{{{{[sol1, sol2]}}}}"
doc_to_target: label
"""


@pytest.fixture
def own_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a task of one's own, whose data lie beside it."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    directory = tmp_path / "tasks"
    file = write(directory, "questions", PIQA, PIQA | {"label": 1})
    (directory / "own.yaml").write_text(OWN_TASK.format(file=file), encoding="utf-8")
    return directory


@pytest.mark.parametrize("data", [True, False], ids=["with NASFARM_DATA", "without"])
def test_a_task_of_one_s_own_is_named_by_its_file(own_tasks: Path, data: bool) -> None:
    asked = TaskItems(task=str(own_tasks / "own.yaml"), stop=2)
    documents = load_items(asked, own_tasks.parent if data else None).documents
    assert sorted(document.golds() for document in documents) == [(0,), (1,)]


@pytest.mark.parametrize("data", [True, False], ids=["with NASFARM_DATA", "without"])
def test_the_files_of_a_task_of_one_s_own_are_where_its_data_are_said_to_come_from(own_tasks: Path, data: bool) -> None:
    asked, file = TaskItems(task=str(own_tasks / "own.yaml"), stop=2), own_tasks / "questions.jsonl"
    assert load_items(asked, own_tasks.parent if data else None).origin == str(file)
    file.unlink()
    with pytest.raises(UserError, match="put it there, or correct dataset_path or dataset_kwargs") as refused:
        load_items(asked, own_tasks.parent if data else None)
    assert str(refused.value).startswith(f"tasks.own_questions: {file}: can't be read (")
    assert "hub" not in str(refused.value) and "\n" not in str(refused.value)


def test_tasks_of_a_directory_are_known_by_their_names(own_tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, entry in dict(task_manager().task_index).items():
        if name == "plain_facts":
            monkeypatch.setitem(task_manager().task_index, "own_questions", entry)  # so that it is gone afterwards
    include_tasks(own_tasks)
    assert len(load_items(TaskItems(task="own_questions", stop=2), None).documents) == 2


def test_a_task_file_or_directory_that_is_not_there_or_no_task_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, "none.yaml") == (
        "tasks.none.yaml: no such file; give the path of a task of lm-eval in YAML"
    )
    (tmp_path / "bad.yaml").write_text("colour: red", encoding="utf-8")
    assert "lm-eval can't load it" in refusal(tmp_path, str(tmp_path / "bad.yaml"))
    (tmp_path / "empty").mkdir()
    for directory in (tmp_path / "empty", tmp_path / "none"):
        with pytest.raises(UserError, match="holds no task of lm-eval; name a directory with tasks in YAML"):
            include_tasks(directory)
