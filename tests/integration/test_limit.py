"""`nasfarm evaluate --limit N` has the numbers of lm-eval's `--limit N`, also of a group, of whose tasks each has N."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from services.evaluator.tasks.index import task_manager
from shared.messages import EvaluationResult, Measurement
from shared.supernet.tokenizer import load_tokenizer
from tests.support.checkpoints import write_checkpoint
from tests.support.command import Run

SIZES = {"cats": 9, "dogs": 3, "owls": 6}
SHOTS = {"cats": 0, "dogs": 1, "owls": 2}
LIMIT = 4


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


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
