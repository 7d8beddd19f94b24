"""Tasks of one's own, by `include_path`: measured by hand and searched on; `--limit`, which has lm-eval's numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from services.evaluator.tasks.index import task_manager
from shared.messages import EvaluationResult, Measurement
from shared.supernet.tokenizer import load_tokenizer
from tests.support.checkpoints import write_checkpoint
from tests.support.command import Run, search_file
from tests.support.instructions import few_instructions

SIZES = {"cats": 9, "dogs": 3, "owls": 6}
SHOTS = {"cats": 0, "dogs": 1, "owls": 2}
LIMIT = 4


pytestmark = pytest.mark.usefixtures("without_warnings")


@pytest.fixture
def own_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A group of three tasks of different sizes, with and without examples."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name, size in SIZES.items():
        files = {}
        for split, rows in (("train", 5), ("test", size)):
            files[split] = str(folder / f"{name}-{split}.jsonl")
            asked = [
                {"q": f"Which of the {name} is number {row}?", "c": list("abc"), "a": row % 3} for row in range(rows)
            ]
            Path(files[split]).write_text("".join(f"{json.dumps(row)}\n" for row in asked))
        task = {
            "task": f"limit_{name}",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": files},
            "output_type": "multiple_choice",
            "training_split": "train",
            "test_split": "test",
            "doc_to_text": "{{q}}",
            "doc_to_choice": "{{c}}",
            "doc_to_target": "{{a}}",
            "num_fewshot": SHOTS[name],
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task))
    group = {
        "group": "limit_pets",
        "task": [f"limit_{name}" for name in SIZES],
        "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
    }
    (folder / "pets.yaml").write_text(yaml.safe_dump(group))
    monkeypatch.setattr(task_manager(), "_index", dict(task_manager().task_index), raising=False)
    return folder


def test_the_first_items_of_each_task_are_measured_as_by_lm_eval(run: Run, own_tasks: Path, tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "base", "llama-grouped-tied")
    arguments = ["--checkpoint", tmp_path / "base", "--dtype", "float32", "--json", tmp_path / "result.json"]
    ended = run("evaluate", *arguments, "--include-path", own_tasks, "--task", "limit_pets", "--limit", LIMIT)
    assert ended.code == 0, ended
    measurement = EvaluationResult.model_validate_json((tmp_path / "result.json").read_bytes()).outcome
    assert isinstance(measurement, Measurement)
    (scores,) = measurement.scores
    theirs = simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=load_tokenizer(tmp_path / "base"), device="cpu", batch_size=4),
        tasks=["limit_pets"],
        limit=LIMIT,
        task_manager=TaskManager(include_defaults=False, include_path=str(own_tasks)),
        bootstrap_iters=0,
    )
    assert theirs is not None
    assert scores.items == (0, 1, 2, 3, 9, 10, 11, 12, 13, 14, 15)
    assert scores.values["acc"] == pytest.approx(theirs["results"]["limit_pets"]["acc,none"])
    start = 0
    for name, size in SIZES.items():
        samples = sorted(theirs["samples"][f"limit_{name}"], key=lambda sample: sample["doc_id"])
        assert [sample["doc_id"] for sample in samples] == list(range(min(size, LIMIT)))
        assert list(scores.metrics["acc"][start : start + len(samples)]) == [sample["acc"] for sample in samples]
        likelihoods = [[float(answer[0]) for answer in sample["filtered_resps"]] for sample in samples]
        golds = [row % 3 for row in range(len(samples))]
        margins = [
            each[gold] - max(value for index, value in enumerate(each) if index != gold)
            for each, gold in zip(likelihoods, golds, strict=True)
        ]
        assert scores.margins[start : start + len(samples)] == pytest.approx(margins, abs=1e-3)
        start += len(samples)


def test_a_limit_and_a_number_of_items_are_two_ways_to_say_which_items(run: Run, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "base", "llama-grouped-tied")
    ended = run("evaluate", "--checkpoint", tmp_path / "base", "--task", "plain_facts", "--items", 5, "--limit", 5)
    assert ended.code == 2 and "give one of the two" in ended.error, ended


TRAINING = {"steps": 1, "tokens_per_step": 256, "calibration_tokens": 256}
FEW = {"evaluations": 2, "population": 2}


def own_search(directory: Path, task: dict[str, Any], **changes: Any) -> Path:
    """A search on one task."""
    tasks = [{"search": {"items": 4}, "report": {"items": 4}, **task}]
    training = {"data": few_instructions(directory), **TRAINING}
    return search_file(directory, tasks=tasks, search=FEW, training=training, **changes)


def test_a_search_finds_the_tasks_of_the_directory_that_its_file_names(
    run: Run, own_tasks: Path, tmp_path: Path
) -> None:
    search = own_search(tmp_path, {"name": "limit_cats"}, include_path=str(own_tasks))
    ended = run("search", search, "--runs", tmp_path / "runs")
    assert ended.code == 0, ended
    assert "limit_cats" in ended.output and "4 items to search, 4 others to report" in ended.output
    ended = run("search", own_search(tmp_path, {"name": "limit_cats"}, include_path="nowhere"))
    assert ended.code == 2 and "nowhere: holds no task of lm-eval" in ended.error, ended


@pytest.mark.parametrize("command", ["train", "search"])
def test_what_is_wrong_with_a_task_is_found_before_anything_is_fine_tuned(
    run: Run, own_tasks: Path, tmp_path: Path, command: str
) -> None:
    for task, words in (
        ({"name": "limit_owls", "num_fewshot": 6}, "num_fewshot is 6, there are 5 examples"),
        ({"name": "limit_dogs"}, "4 items are asked for of split test, it has 3"),
        ({"name": "limit_cats", "metric": "acc_norm"}, "lm-eval has no 'acc_norm' for it"),
    ):
        search = own_search(tmp_path, task, include_path=str(own_tasks))
        ended = run(command, search, "--runs", tmp_path / "runs")
        assert ended.code == 2 and words in ended.error and ended.error.count("\n") == 1, ended
    assert not (tmp_path / "supernets").exists()


def test_a_trainer_without_the_tasks_data_says_so_and_makes_the_super_network(run: Run, tmp_path: Path) -> None:
    search = own_search(tmp_path, {"name": "arc_easy"})
    ended = run("train", search, "--runs", tmp_path / "runs")
    assert ended.code == 0, ended
    assert "Tasks          not checked: tasks.arc_easy: lm-eval can't load it" in ended.output
    assert len([path for path in (tmp_path / "supernets").iterdir() if path.is_dir()]) == 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"include_path": "somewhere"}, "include_path"), ({"tasks": None}, "tasks.mine.yaml")],
    ids=["directory", "file"],
)
def test_a_farm_refuses_task_files_by_name_before_anything_is_done(
    run: Run, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    name = "mine.yaml" if "tasks" in changes else "plain_facts"
    search = own_search(tmp_path, {"name": name}, **{key: value for key, value in changes.items() if value is not None})
    ended = run("search", search, "--runs", tmp_path / "runs", "--broker", "amqp://user:word@127.0.0.1:1/farm")
    assert ended.code == 2 and ended.error.startswith(f"nasfarm: {named}: evaluators of a farm read no tasks"), ended
