"""Our scorer gives lm-eval's own answers: the reference is lm-eval's `hf` model, run by lm-eval's `simple_evaluate`."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from services.evaluator.preparation import prepare_task
from services.evaluator.scoring import score
from services.evaluator.tasks.index import OWN, task_manager
from services.evaluator.tasks.loading import Document, LoadedTask, load_items
from services.evaluator.tasks.local import local_data
from services.evaluator.tokenisation import Continuation, tokenize_requests
from shared.architecture import Architecture
from shared.messages import ItemScores, TaskItems
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from shared.supernet.source import EXAMPLE_MODEL, fetch_model
from tests.support.checkpoints import WIDTH, copied_subnet, random_model, tiny_tokenizer, write_checkpoint
from tests.support.data import benchmark_data
from tests.support.tasks import register, tokenizer_with_bos, tokenizer_without_bos

FIVE = (
    TaskItems(task="arc_easy", stop=16),
    TaskItems(task="arc_challenge", stop=16),
    TaskItems(task="winogrande", stop=16),
    TaskItems(task="truthfulqa_mc1", stop=8),
    TaskItems(task="truthfulqa_mc2", stop=8),
    TaskItems(task="plain_facts", stop=30),
)
MMLU = tuple(
    TaskItems(task=f"mmlu_{subject}", num_fewshot=5, stop=2)
    for subject in (
        "anatomy",
        "astronomy",
        "college_computer_science",
        "global_facts",
        "high_school_european_history",
        "high_school_geography",
        "international_law",
        "machine_learning",
        "professional_law",
        "us_foreign_policy",
    )
)
WIKITEXT = TaskItems(task="wikitext", stop=1)
TOLERANCE = 1e-4
ROW_TOKENS = 3000

Answer = tuple[float, bool | None]
"""Log-likelihood of a request and whether it is the greedy choice, which lm-eval doesn't say of a whole text."""


@dataclass(frozen=True)
class Answers:
    """lm-eval's, by the item's index in the split: for each request, for each metric; and the metrics of all."""

    likelihoods: dict[int, list[Answer]]
    metrics: dict[int, dict[str, Any]]
    values: dict[str, float]


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
            task_manager=task_manager(),
            bootstrap_iters=0,
            log_samples=True,
        )
    assert found is not None
    return {task: _answers(found["samples"][task], found["results"][task]) for task in items}


def _answers(samples: list[dict[str, Any]], values: dict[str, float]) -> Answers:
    names = samples[0]["metrics"]
    return Answers(
        {
            sample["doc_id"]: [
                (answer, None) if isinstance(answer, int | float) else tuple(answer)
                for answer in sample["filtered_resps"]
            ]
            for sample in samples
        },
        {sample["doc_id"]: {name: sample[name] for name in names} for sample in samples},
        {name: values[f"{name},none"] for name in names},
    )


def our_answers(
    network: Decoder,
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    asked: TaskItems,
    data: Path | None,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[ItemScores, dict[int, list[Answer]]]:
    """What the scorer says, and the log-likelihoods that it has it from."""
    loaded = loaded_items(asked, data)
    assert len(loaded.documents) == asked.stop - asked.start
    prepared = prepare_task(asked.task, loaded, tokenizer, config, torch.device("cpu"), ROW_TOKENS)
    seen: dict[int, list[Answer]] = {}
    metrics = Document.metrics

    def recording(document: Document, answers: Sequence[tuple[float, bool]]) -> dict[str, Any]:
        seen[document.index] = [(value, None if document.rolling else greedy) for value, greedy in answers]
        return metrics(document, answers)

    with monkeypatch.context() as patch:
        patch.setattr(Document, "metrics", recording)
        scores = score(network, prepared)
    return scores, seen


def assert_agreement(scores: ItemScores, ours: dict[int, list[Answer]], theirs: Answers) -> None:
    assert sorted(scores.items) == sorted(ours) == sorted(theirs.likelihoods)
    for item, answers in theirs.likelihoods.items():
        assert [value for value, _ in ours[item]] == pytest.approx([value for value, _ in answers], rel=TOLERANCE)
        assert [greedy for _, greedy in ours[item]] == [greedy for _, greedy in answers]
    assert scores.values == pytest.approx(theirs.values, rel=TOLERANCE)
    for name, values in scores.metrics.items():
        assert dict(zip(scores.items, values, strict=True)) == pytest.approx(
            {item: metrics[name] for item, metrics in theirs.metrics.items()}, rel=TOLERANCE, abs=0
        )
    # A pair, or an array, has no value for a single item.
    assert set(scores.metrics) == {
        name for name, value in next(iter(theirs.metrics.values())).items() if isinstance(value, int | float)
    }


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
    compare(tmp_path, model, (*FIVE, *MMLU, WIKITEXT), benchmark_data(), monkeypatch)


@pytest.mark.parametrize("family", ["llama", "mistral-window", "qwen2-window", "qwen3-window"])
@pytest.mark.parametrize(
    "architecture",
    [
        Architecture(layers=(0, 2, 3), mlp_widths=(6, WIDTH, 12)),
        Architecture(layers=(0, 1, 2, 3, 4), mlp_widths=(12,) * 5),
    ],
    ids=["fewer-layers", "narrower-layers"],
)
def test_sub_networks_are_scored_as_by_lm_eval(
    family: str, architecture: Architecture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subnet = copied_subnet(write_checkpoint(tmp_path, family), architecture)
    tasks = (FIVE[1], FIVE[2], FIVE[4], MMLU[0])
    compare(tmp_path, subnet, tasks, benchmark_data(), monkeypatch, architecture)


def test_items_longer_than_the_model_reads_are_cut_as_by_lm_eval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = benchmark_data()
    model = write_checkpoint(tmp_path, "llama", max_position_embeddings=48)
    questions = [str(document.context) for document in loaded_items(FIVE[0], data).documents]
    assert sum(len(tokens) > 48 for tokens in tiny_tokenizer()(questions)["input_ids"]) > 5
    compare(tmp_path, model, (FIVE[0], FIVE[2], MMLU[0], WIKITEXT), data, monkeypatch)


QUESTIONS = [
    {"question": "What is ice made of?", "choices": ["water", "sand and stone", "fire"], "gold": 0},
    {"question": "Which of these is a bird?  ", "choices": ["a stone", "a robin"], "gold": 1},
    {"question": "Name a colour.", "choices": [" red", "blue, or something like it", "heavy", "seven"], "gold": 1},
    {"question": "<s>What do bees make?", "choices": ["honey", "milk", "<s> bread"], "gold": 0},
]
CHOICES: dict[str, Any] = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{gold}}",
}
EDGES: dict[str, dict[str, Any]] = {
    "no_context": {"doc_to_text": ""},
    "no_context_no_delimiter": {"doc_to_text": "", "target_delimiter": ""},
    "spaces_before_choices": {"doc_to_text": "{{question}}   ", "target_delimiter": ""},
    "line_before_choices": {"doc_to_text": "Q: {{question}}\nA:", "target_delimiter": "\n"},
    "nothing_before_choices": {"target_delimiter": ""},
    "several_right": {"doc_to_target": "{{[gold, 0]}}"},
    "every_metric": {
        "metric_list": [
            {"metric": name, "aggregation": aggregation, "higher_is_better": True}
            for name, aggregation in {
                "acc": "mean",
                "acc_norm": "mean",
                "acc_bytes": "mean",
                "acc_mutual_info": "mean",
                "exact_match": "mean",
                "mcc": "matthews_corrcoef",
            }.items()
        ]
    },
}
TOKENIZERS = {"plain": tiny_tokenizer, "adds-bos": tokenizer_with_bos, "no-bos": tokenizer_without_bos}
TEXTS = ["Ice is made of water. " * 12, "Bees make honey", "", "<s>" + "robins sing in the morning, " * 9, " \n"]


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("max_length", [24, 500])
def test_the_edges_of_tokenisation_are_lm_evals(
    tokenizer: str, max_length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_checkpoint(tmp_path, "qwen3", max_position_embeddings=max_length)
    TOKENIZERS[tokenizer]().save_pretrained(tmp_path)
    for name, changes in EDGES.items():
        register(monkeypatch, name, QUESTIONS, **CHOICES | changes)
    register(
        monkeypatch,
        "texts",
        [{"text": text} for text in TEXTS],
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{text}}",
    )
    tasks = (*(TaskItems(task=name, stop=len(QUESTIONS)) for name in EDGES), TaskItems(task="texts", stop=len(TEXTS)))
    compare(tmp_path, model, tasks, None, monkeypatch)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("max_length", [8, 24, 500])
def test_the_tokens_are_those_that_lm_eval_has_read(tokenizer: str, max_length: int) -> None:
    chosen = TOKENIZERS[tokenizer]()
    model = random_model("llama", max_position_embeddings=max_length)
    pairs = [
        (context, continuation)
        for context in ("", "Ice is made of", "Ice is made of  ", "Ice\n", "<s>Ice is made of ", TEXTS[0])
        for continuation in (" water", "water", "\nwater", " ", "<s> water", " water and air")
    ]
    requests = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    texts = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in TEXTS]
    reference = HFLM(pretrained=model, tokenizer=chosen, device="cpu", batch_size=1, logits_cache=False)
    read: list[tuple[int, ...]] = []
    network_call = reference._model_call
    reference._model_call = lambda inputs: (read.append(tuple(inputs[0].tolist())), network_call(inputs))[1]
    theirs = [value for value, _ in reference.loglikelihood(requests)] + reference.loglikelihood_rolling(texts)
    ours = tokenize_requests([*requests, *texts], chosen, max_length)
    assert Counter(read) == Counter(window.inputs for windows in ours for window in windows)
    assert [likelihood(model, windows) for windows in ours] == pytest.approx(theirs, rel=TOLERANCE)


@torch.inference_mode()
def likelihood(model: PreTrainedModel, windows: Sequence[Continuation]) -> float:
    """transformers' own log-likelihood of the targets of all windows."""
    total = 0.0
    for window in windows:
        logits = model(torch.tensor([window.inputs])).logits[0, -len(window.targets) :]
        total += float(logits.log_softmax(-1).gather(1, torch.tensor([window.targets]).T).sum())
    return total


def test_tasks_are_found_where_lm_eval_finds_them() -> None:
    theirs, ours = TaskManager(include_path=str(OWN)).task_index, task_manager().task_index
    assert {name: (entry.kind, entry.yaml_path, entry.tags) for name, entry in theirs.items()} == {
        name: (entry.kind, entry.yaml_path, entry.tags) for name, entry in ours.items()
    }


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
        document.index: [request.args for request in document.requests()]
        for document in loaded_items(asked, data).documents
    }
    with local_data(data):
        (task,) = task_manager().load(asked.task)["tasks"].values()
    if task.get_config("num_fewshot") != 0:
        task.set_config(key="num_fewshot", value=asked.num_fewshot)
    task.set_fewshot_seed(seed=1234)
    task.build_all_requests(limit=None, rank=0, world_size=1)
    theirs: dict[int, list[tuple[str, ...]]] = {}
    for instance in task.instances:
        theirs.setdefault(instance.doc_id, []).append(instance.args)
    assert ours == {index: theirs[index] for index in ours}
