"""Our scorer gives lm-eval's own answers: the reference is lm-eval's `hf` model, run by lm-eval's `simple_evaluate`."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from services.evaluator.batches import Continuation
from services.evaluator.tasks.index import OWN, task_manager
from services.evaluator.tasks.local import local_data
from services.evaluator.tokenisation import tokenize_requests
from shared.architecture import Architecture
from shared.messages import TaskItems
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.source import EXAMPLE_MODEL, fetch_model
from shared.supernet.tokenizer import load_tokenizer
from tests.benchmarks.scoring import SUBJECTS
from tests.support.agreement import TOLERANCE, Comparison, comparisons, loaded_items
from tests.support.checkpoints import WIDTH, copied_subnet, random_model, tiny_tokenizer, write_checkpoint
from tests.support.data import benchmark_data
from tests.support.tasks import (
    CHATML,
    INSTRUCTED,
    register,
    tokenizer_with_bos,
    tokenizer_with_chat,
    tokenizer_without_bos,
)

FIVE = (
    TaskItems(task="arc_easy", stop=16),
    TaskItems(task="arc_challenge", stop=16),
    TaskItems(task="winogrande", stop=16),
    TaskItems(task="truthfulqa_mc1", stop=8),
    TaskItems(task="truthfulqa_mc2", stop=8),
    TaskItems(task="plain_facts", stop=30),
)
MMLU = tuple(TaskItems(task=f"mmlu_{subject}", num_fewshot=5, stop=2) for subject in SUBJECTS)
WIKITEXT = TaskItems(task="wikitext", stop=1)
BATCH_TOKENS = 3000


pytestmark = pytest.mark.usefixtures("without_warnings")


def compare(
    directory: Path,
    model: PreTrainedModel,
    tasks: tuple[TaskItems, ...],
    data: Path | None,
    architecture: Architecture | None = None,
    **arguments: Any,
) -> None:
    tokenizer = load_tokenizer(directory)
    reference = HFLM(pretrained=model, tokenizer=tokenizer, device="cpu", batch_size=8, **arguments)
    compared = list(comparisons(Checkpoint.open(directory), architecture, reference, tasks, data, BATCH_TOKENS))
    assert sorted(comparison.scores.task for comparison in compared) == sorted(asked.task for asked in tasks)
    for comparison in compared:
        assert_agreement(comparison)


def assert_agreement(comparison: Comparison) -> None:
    scores, ours, theirs = comparison.scores, comparison.ours, comparison.theirs
    assert sorted(scores.items) == sorted(ours.likelihoods) == sorted(theirs.likelihoods)
    assert comparison.likelihood_difference() <= TOLERANCE
    assert comparison.greedy_differences() == []
    assert comparison.metric_differences() == []
    assert scores.values == pytest.approx(theirs.values, rel=TOLERANCE)
    # What the result holds of each item; a pair, or an array, has no value for a single item.
    for item, metrics in ours.metrics.items():
        numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
        at = scores.items.index(item)
        assert {name: values[at] for name, values in scores.metrics.items()} == numbers


@pytest.mark.parametrize(
    "family",
    [
        "llama-grouped-tied",
        "llama-biases",
        "mistral-window",
        "qwen2-window",
        "qwen3",
        "smollm3-window",
        "gemma3",
    ],
)
def test_every_family_is_scored_as_by_lm_eval(family: str, tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path, family)
    compare(tmp_path, model, (*FIVE, *MMLU, WIKITEXT), benchmark_data())


def test_another_network_is_told_apart(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    other = HFLM(pretrained=random_model("llama", seed=1), tokenizer=tiny_tokenizer(), device="cpu", batch_size=8)
    tasks = (FIVE[0], FIVE[4])
    for comparison in comparisons(Checkpoint.open(tmp_path), None, other, tasks, benchmark_data(), BATCH_TOKENS):
        assert comparison.likelihood_difference() > 100 * TOLERANCE
        assert comparison.greedy_differences() or comparison.metric_differences()


SUBNETS = {
    "fewer-layers": Architecture(layers=(0, 2, 3), mlp_widths=(6, WIDTH, 12)),
    "narrower-layers": Architecture(layers=(0, 1, 2, 3, 4), mlp_widths=(12,) * 5),
}


@pytest.mark.parametrize(
    ("family", "subnet"),
    [
        *product(["llama", "mistral-window", "qwen2-window", "qwen3-window"], SUBNETS),
        *product(["smollm3-window", "gemma3"], ["fewer-layers"]),
    ],
)
def test_sub_networks_are_scored_as_by_lm_eval(family: str, subnet: str, tmp_path: Path) -> None:
    architecture = SUBNETS[subnet]
    reference = copied_subnet(write_checkpoint(tmp_path, family), architecture)
    tasks = (FIVE[1], FIVE[2], FIVE[4], MMLU[0])
    compare(tmp_path, reference, tasks, benchmark_data(), architecture)


def test_items_longer_than_the_model_reads_are_cut_as_by_lm_eval(tmp_path: Path) -> None:
    data = benchmark_data()
    model = write_checkpoint(tmp_path, "llama", max_position_embeddings=48)
    questions = [str(document.context) for document in loaded_items(FIVE[0], data).documents]
    assert sum(len(tokens) > 48 for tokens in tiny_tokenizer()(questions)["input_ids"]) > 5
    compare(tmp_path, model, (FIVE[0], FIVE[2], MMLU[0], WIKITEXT), data)


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
    compare(tmp_path, model, tasks, None)


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


CHATS = {
    "chatml": tokenizer_with_chat(CHATML),
    "begins-with-bos": tokenizer_with_chat(INSTRUCTED, bos=True),
    "bos-before-it": tokenizer_with_chat(CHATML, bos=True),
}


def chat_checkpoint(directory: Path, tokenizer: PreTrainedTokenizerFast, family: str = "llama") -> PreTrainedModel:
    model = write_checkpoint(directory, family, vocab_size=len(tokenizer))
    tokenizer.save_pretrained(directory)
    return model


def as_chats(tasks: Sequence[TaskItems], **settings: Any) -> tuple[TaskItems, ...]:
    return tuple(asked.model_copy(update={"apply_chat_template": True, **settings}) for asked in tasks)


@pytest.mark.parametrize(
    ("chat", "tasks"), [("chatml", (*FIVE, WIKITEXT)), ("begins-with-bos", FIVE[2:3]), ("bos-before-it", FIVE[:1])]
)
def test_chats_are_scored_as_by_lm_eval(chat: str, tasks: tuple[TaskItems, ...], tmp_path: Path) -> None:
    model = chat_checkpoint(tmp_path, CHATS[chat], "qwen3")
    in_one_turn = as_chats(MMLU[:2], fewshot_as_multiturn=False)
    compare(tmp_path, model, (*as_chats((*tasks, *MMLU[:2])), *in_one_turn), benchmark_data())


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("multiturn", [True, False])
def test_the_edges_of_chats_are_lm_evals(
    chat: str, multiturn: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = chat_checkpoint(tmp_path, CHATS[chat])
    asking = {**CHOICES, "doc_to_text": "Q: {{question}}\nA:"}
    edges: dict[str, dict[str, Any]] = {
        "every_metric": EDGES["every_metric"],
        "described": {"description": "Answer the questions.\n\n"},
        "answer_begun": {"gen_prefix": "The answer is"},
        "answer_begun_with_a_space": {"gen_prefix": "The answer is "},
        "line_before_choices": {"target_delimiter": "\n"},
        "other_delimiters": {"fewshot_delimiter": " ## ", "fewshot_config": {"split": "test"}},
    }
    for name, changes in edges.items():
        register(monkeypatch, name, QUESTIONS, **asking | changes)
    for shots in (0, 2):
        tasks = [TaskItems(task=name, num_fewshot=shots, stop=len(QUESTIONS)) for name in edges]
        compare(tmp_path, model, as_chats(tasks, fewshot_as_multiturn=multiturn), None)


def test_the_template_that_is_named_is_applied_and_a_search_never_sees_another_day(tmp_path: Path) -> None:
    brief = "{{ strftime_now('%d %b %Y') }}: {{ messages[-1].content }}\n"
    model = chat_checkpoint(tmp_path, tokenizer_with_chat({"default": CHATML, "brief": brief}))
    dated = {"chat_template": brief.replace("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024")}
    compare(tmp_path, model, as_chats(FIVE[-1:], apply_chat_template="brief"), None, chat_template_args=dated)
    compare(tmp_path, model, as_chats(FIVE[-1:]), None)


def test_a_sub_network_is_scored_on_chats_as_by_lm_eval(tmp_path: Path) -> None:
    architecture = Architecture(layers=(0, 2, 3), mlp_widths=(6, WIDTH, 12))
    subnet = copied_subnet(chat_checkpoint(tmp_path, CHATS["chatml"]), architecture)
    compare(tmp_path, subnet, as_chats((FIVE[0], MMLU[0])), benchmark_data(), architecture)


def test_tasks_are_found_where_lm_eval_finds_them() -> None:
    theirs, ours = TaskManager(include_path=str(OWN)).task_index, task_manager().task_index
    assert {name: (entry.kind, entry.yaml_path, entry.tags) for name, entry in theirs.items()} == {
        name: (entry.kind, entry.yaml_path, entry.tags) for name, entry in ours.items()
    }


def test_the_example_model_is_scored_as_by_lm_eval() -> None:
    directory, _ = fetch_model(EXAMPLE_MODEL)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    plain, chat = (TaskItems(task="plain_facts", num_fewshot=0, stop=stop) for stop in (30, 4))
    compare(directory, model, (plain, *as_chats([chat])), None)


@pytest.mark.parametrize(
    "asked",
    [
        TaskItems(task="arc_challenge", num_fewshot=3, start=3, stop=40),
        TaskItems(task="winogrande", num_fewshot=5, stop=20),
        TaskItems(task="mmlu_anatomy", num_fewshot=5, stop=20),
        TaskItems(task="mmlu_stem", num_fewshot=1, stop=40),
        TaskItems(task="truthfulqa_mc1", num_fewshot=2, stop=20),
        TaskItems(task="plain_facts", num_fewshot=2, stop=20),
    ],
    ids=lambda asked: asked.task,
)
@pytest.mark.parametrize("chat", [{}, {"multiturn": True}, {"multiturn": False}], ids=["plain", "turns", "one-turn"])
def test_the_examples_before_an_item_are_those_that_lm_eval_draws(asked: TaskItems, chat: dict[str, bool]) -> None:
    data, tokenizer = benchmark_data(), CHATS["chatml"]
    if chat:
        (asked,) = as_chats((asked,), fewshot_as_multiturn=chat["multiturn"])
    ours = {
        document.index: [request.args for request in document.requests()]
        for document in loaded_items(asked, data, tokenizer).documents
    }
    with local_data(data):
        tasks = task_manager().load(asked.task)["tasks"].values()
    theirs: list[list[Instance]] = []
    for task in sorted(tasks, key=lambda task: str(task.task_name)):
        if task.get_config("num_fewshot") != 0:
            task.set_config(key="num_fewshot", value=asked.num_fewshot)
        task.set_fewshot_seed(seed=1234)
        task.build_all_requests(
            apply_chat_template=bool(chat),
            fewshot_as_multiturn=asked.fewshot_as_multiturn,
            chat_template=HFLM.apply_chat_template.__get__(lm_eval_without_network(tokenizer)) if chat else None,
        )
        theirs += [list(own) for _, own in groupby(task.instances, lambda instance: instance.doc_id)]
    assert ours == {index: [instance.args for instance in theirs[index]] for index in ours}


def lm_eval_without_network(tokenizer: PreTrainedTokenizerFast) -> Any:
    """As much of lm-eval's `hf` model as it needs to make a prompt of messages."""
    return SimpleNamespace(tokenizer=tokenizer, chat_template_args={})
