"""Our scorer gives lm-eval's own answers: the reference is lm-eval's `hf` model, run by lm-eval's `simple_evaluate`."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from services.evaluator.preparation import prepare_task
from services.evaluator.scoring import score
from services.evaluator.tasks.loading import Document, LoadedTask, _manager, load_items
from services.evaluator.tasks.local import local_data
from shared.architecture import Architecture
from shared.messages import ItemScores, TaskItems
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from shared.supernet.source import EXAMPLE_MODEL, fetch_model
from tests.support.checkpoints import WIDTH, copied_subnet, tiny_tokenizer, write_checkpoint
from tests.support.data import benchmark_data

TASKS = (
    TaskItems(task="arc_easy", stop=24),
    TaskItems(task="arc_challenge", stop=24),
    TaskItems(task="winogrande", stop=24),
    TaskItems(task="truthfulqa_mc1", stop=16),
    TaskItems(task="plain_facts", stop=30),
    TaskItems(task="mmlu_anatomy", num_fewshot=5, stop=8),
    TaskItems(task="mmlu_high_school_geography", num_fewshot=5, stop=8),
)
TOLERANCE = 1e-4
ROW_TOKENS = 3000

Likelihoods = dict[int, list[tuple[float, bool]]]
"""For each item (by its index in the split), log-likelihood and whether it is the greedy choice, for each request."""


@dataclass(frozen=True)
class Answers:
    """What is compared: `means` only lm-eval gives."""

    likelihoods: Likelihoods
    metrics: dict[int, dict[str, float]]
    means: dict[str, float]


@cache
def loaded_items(asked: TaskItems, data: Path | None) -> LoadedTask:
    return load_items(asked, data)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def lm_eval_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: dict[str, tuple[int, ...]],
    num_fewshot: int | None,
    data: Path | None,
) -> dict[str, Answers]:
    with local_data(data):
        found = simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=tokenizer, device="cpu", batch_size=8),
            tasks=list(items),
            num_fewshot=num_fewshot,
            # lm-eval mistakes one item for another if they aren't ascending.
            samples={task: sorted(indices) for task, indices in items.items()},
            task_manager=_manager(),
            bootstrap_iters=0,
            log_samples=True,
        )
    assert found is not None
    return {task: _answers(found["samples"][task], found["results"][task]) for task in items}


def _answers(samples: list[dict[str, Any]], means: dict[str, float]) -> Answers:
    names = samples[0]["metrics"]
    return Answers(
        {sample["doc_id"]: sample["filtered_resps"] for sample in samples},
        {sample["doc_id"]: {name: float(sample[name]) for name in names} for sample in samples},
        {name: means[f"{name},none"] for name in names},
    )


def our_answers(
    network: Decoder,
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    asked: TaskItems,
    data: Path | None,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[ItemScores, Likelihoods]:
    loaded = loaded_items(asked, data)
    assert len(loaded.documents) == asked.stop - asked.start
    prepared = prepare_task(asked.task, loaded, tokenizer, config, torch.device("cpu"), ROW_TOKENS)
    seen: list[list[tuple[float, bool]]] = []
    process_results = ConfigurableTask.process_results

    def recording(task: ConfigurableTask, doc: Any, results: list[tuple[float, bool]]) -> dict[str, Any]:
        seen.append(results)
        return dict(process_results(task, doc, results))

    with monkeypatch.context() as patch:
        patch.setattr(ConfigurableTask, "process_results", recording)
        scores = score(network, prepared)
    return scores, dict(zip(scores.items, seen, strict=True))


def assert_agreement(scores: ItemScores, ours: Likelihoods, theirs: Answers) -> None:
    assert set(scores.items) == set(theirs.likelihoods)
    for item, answers in theirs.likelihoods.items():
        assert [value for value, _ in ours[item]] == pytest.approx([value for value, _ in answers], rel=TOLERANCE)
        assert [greedy for _, greedy in ours[item]] == [greedy for _, greedy in answers]
    assert set(scores.metrics) == set(theirs.means)
    for name, values in scores.metrics.items():
        assert dict(zip(scores.items, values, strict=True)) == {
            item: metrics[name] for item, metrics in theirs.metrics.items()
        }
        assert sum(values) / len(values) == pytest.approx(theirs.means[name], abs=1e-12)


def compare(
    directory: Path,
    model: PreTrainedModel,
    tasks: tuple[TaskItems, ...],
    data: Path | None,
    monkeypatch: pytest.MonkeyPatch,
    architecture: Architecture | None = None,
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    checkpoint = Checkpoint.open(directory)
    network = checkpoint.cut(architecture).map(lambda tensor: tensor.float())
    for num_fewshot in {asked.num_fewshot for asked in tasks}:
        ours = {
            asked.task: our_answers(network, checkpoint.config, tokenizer, asked, data, monkeypatch)
            for asked in tasks
            if asked.num_fewshot == num_fewshot
        }
        items = {task: scores.items for task, (scores, _) in ours.items()}
        theirs = lm_eval_answers(model, tokenizer, items, num_fewshot, data)
        for task, (scores, likelihoods) in ours.items():
            assert_agreement(scores, likelihoods, theirs[task])


@pytest.mark.parametrize("family", ["llama-grouped-tied", "llama-biases", "mistral-window", "qwen2-window", "qwen3"])
def test_every_family_is_scored_as_by_lm_eval(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_checkpoint(tmp_path, family)
    compare(tmp_path, model, TASKS, benchmark_data(), monkeypatch)


def test_sub_networks_are_scored_as_by_lm_eval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = benchmark_data()
    model = write_checkpoint(tmp_path, "qwen3-window")
    for architecture in (
        Architecture(layers=(0, 2, 3), mlp_widths=(6, WIDTH, 12)),
        Architecture(layers=(0, 1, 2, 3, 4), mlp_widths=(12,) * 5),
    ):
        compare(tmp_path, copied_subnet(model, architecture), TASKS[:3], data, monkeypatch, architecture)


def test_items_longer_than_the_model_reads_are_cut_as_by_lm_eval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = benchmark_data()
    model = write_checkpoint(tmp_path, "llama", max_position_embeddings=48)
    questions = [str(document.context) for document in loaded_items(TASKS[0], data).documents]
    assert sum(len(tokens) > 48 for tokens in tiny_tokenizer()(questions)["input_ids"]) > 5
    compare(tmp_path, model, (TASKS[0], TASKS[2]), data, monkeypatch)


def test_the_example_model_is_scored_as_by_lm_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    directory, _ = fetch_model(EXAMPLE_MODEL)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    compare(directory, model, (TaskItems(task="plain_facts", stop=30),), None, monkeypatch)


@pytest.mark.parametrize(
    "asked",
    [
        TaskItems(task="arc_challenge", num_fewshot=3, start=3, stop=40),
        TaskItems(task="winogrande", num_fewshot=5, stop=20),
        TaskItems(task="mmlu_anatomy", num_fewshot=5, stop=20),
        TaskItems(task="truthfulqa_mc1", num_fewshot=2, stop=20),
        TaskItems(task="plain_facts", num_fewshot=2, stop=20),
    ],
    ids=lambda asked: asked.task,
)
def test_the_examples_before_an_item_are_those_that_lm_eval_draws(asked: TaskItems) -> None:
    data = benchmark_data()
    ours = {
        document.index: [request.args for request in _requests(document)]
        for document in loaded_items(asked, data).documents
    }
    with local_data(data):
        (task,) = _manager().load(asked.task)["tasks"].values()
    if task.get_config("num_fewshot") != 0:
        task.set_config(key="num_fewshot", value=asked.num_fewshot)
    task.set_fewshot_seed(seed=1234)
    task.build_all_requests(limit=None, rank=0, world_size=1)
    theirs: dict[int, list[tuple[str, ...]]] = {}
    for instance in task.instances:
        theirs.setdefault(instance.doc_id, []).append(instance.args)
    assert ours == {index: theirs[index] for index in ours}


def _requests(document: Document) -> list[Any]:
    made = document.task.construct_requests(document.doc, document.context, metadata=(document.task.task_name, 0, 1))
    return made if isinstance(made, list) else [made]
