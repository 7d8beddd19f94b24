"""The scores of a network are those of whole sequences, written out and read one by one by transformers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from services.evaluator import scoring
from services.evaluator.batches import ScoringBatch
from services.evaluator.preparation import PreparedTask, prepare_task
from services.evaluator.progress_callback import ProgressCallback
from services.evaluator.scoring import count_waves, score, score_together
from services.evaluator.tasks.loading import Document, LoadedTask, load_items
from services.evaluator.tokenisation import tokenize_requests
from shared.architecture import Architecture
from shared.messages import ItemScores, TaskItems
from shared.supernet.blocked import blocked
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder, Layer
from shared.supernet.int8 import Int8Linear, quantize_layer
from shared.supernet.packing import pack
from shared.supernet.prefix import Prefix
from shared.supernet.tree import Tree
from tests.support.checkpoints import WIDTH, logits_one_by_one, tiny_tokenizer, write_checkpoint
from tests.support.tasks import register

TOLERANCE = 1e-4
SUBJECTS = {
    "birds": "The following are questions about birds of the world, of which there are many kinds. " * 2,
    "stones": "Stones are hard. What follows is asked about them. " * 3,
}
WORDS = ["bird", "stone", "red", "fire and water", "milk", "the moon", "seven", "a very long river"]
CHOICES: dict[str, Any] = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{gold}}",
    "target_delimiter": "",
    "metric_list": [
        {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm", "exact_match")
    ],
}
TEXTS = ["Ice is made of water. " * 12, "Bees make honey", "", "robins sing in the morning, " * 9]
ROLLING = {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"}
MAX_LENGTH = 24

Answers = list[list[tuple[float, bool]]]


@dataclass(frozen=True)
class Made:
    """A network, the same as transformers', and tasks prepared for it."""

    network: Decoder
    checkpoint: Checkpoint
    model: PreTrainedModel
    subjects: PreparedTask
    texts: PreparedTask


def questions(model: PreTrainedModel, description: str) -> list[dict[str, Any]]:
    """Questions with choices that begin alike; the first is what the network itself would say after the description."""
    made = []
    for number, word in enumerate(WORDS):
        question = f"Which of these is like the {word}?"
        likeliest = logits_one_by_one(model, [tiny_tokenizer()(description + question)["input_ids"]])[0][-1].argmax()
        said = tiny_tokenizer().decode([int(likeliest)])
        choices = [said, f" a red {word}", " a red", " a red stone", f"{said} {word}"]
        made.append({"question": question, "choices": choices, "gold": number % 5})
    return made


def prepared(name: str, loaded: LoadedTask, model: PreTrainedModel, max_length: int, batch_tokens: int) -> PreparedTask:
    config = type(model.config)(**{**model.config.to_dict(), "max_position_embeddings": max_length})
    return prepare_task(name, loaded, tiny_tokenizer(), config, torch.device("cpu"), batch_tokens)


@pytest.fixture(scope="module", params=["llama-grouped-tied", "mistral-window", "qwen3-window"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    directory: Path = tmp_path_factory.mktemp(request.param)
    model = write_checkpoint(directory, request.param)
    with pytest.MonkeyPatch.context() as patch:
        for subject, description in SUBJECTS.items():
            register(patch, subject, questions(model, description), **CHOICES, description=description)
        register(patch, "texts", [{"text": text} for text in TEXTS], **ROLLING)
        parts = [load_items(TaskItems(task=subject, stop=len(WORDS)), None).documents for subject in SUBJECTS]
        mixed = LoadedTask(tuple(document for pair in zip(*parts, strict=True) for document in pair), "here")
        texts = load_items(TaskItems(task="texts", stop=len(TEXTS)), None)
        yield Made(
            network=(checkpoint := Checkpoint.open(directory)).cut(),
            checkpoint=checkpoint,
            model=model,
            subjects=prepared("subjects", mixed, model, 2048, 70),
            texts=prepared("texts", texts, model, MAX_LENGTH, 50),
        )


def expected_answers(model: PreTrainedModel, task: PreparedTask, max_length: int) -> Answers:
    """Log-likelihood of each request of each item and whether it is the greedy choice, straight from the definition."""
    found = []
    for document in task.documents:
        answers = []
        for windows in tokenize_requests(document.requests(), tiny_tokenizer(), max_length):
            likelihood, greedy = 0.0, True
            for window in windows:
                logits = logits_one_by_one(model, [window.inputs])[0][-len(window.targets) :].double()
                targets = torch.tensor(window.targets)
                likelihood += logits.log_softmax(-1)[range(len(targets)), targets].sum().item()
                greedy = greedy and torch.equal(logits.argmax(-1), targets)
            answers.append((likelihood, greedy))
        found.append(answers)
    return found


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """What items are told about their requests, in order."""
    noted: Answers = []
    metrics = Document.metrics

    def note(document: Document, given: Any) -> dict[str, Any]:
        noted.append(list(given))
        return metrics(document, given)

    monkeypatch.setattr(Document, "metrics", note)
    return noted


def assert_same_answers(found: Answers, expected: Answers, tolerance: float = TOLERANCE) -> None:
    for own, theirs in zip(found, expected, strict=True):
        assert [likelihood for likelihood, _ in own] == pytest.approx([value for value, _ in theirs], abs=tolerance)
        assert [greedy for _, greedy in own] == [greedy for _, greedy in theirs]


def assert_same_scores(found: ItemScores, expected: ItemScores) -> None:
    assert found.margins == pytest.approx(expected.margins, abs=TOLERANCE)
    assert found.metrics == {name: pytest.approx(values, rel=TOLERANCE) for name, values in expected.metrics.items()}
    assert found.values == pytest.approx(expected.values, rel=TOLERANCE)
    assert (found.items, found.items_digest) == (expected.items, expected.items_digest)


def test_choices_of_several_subjects_have_the_likelihoods_of_written_out_sequences(
    made: Made, answers: Answers
) -> None:
    task = made.subjects
    assert len(task.prefix_groups) == 2 and all(len(group.prefix) > 40 for group in task.prefix_groups)
    assert all(len(group.batches) > 1 and any(m.tree.branches for m in group.members) for group in task.prefix_groups)
    scores = score(made.network, task)
    expected = expected_answers(made.model, task, 2048)
    flags = [greedy for item in expected for _, greedy in item]
    assert any(flags) and not all(flags)
    assert_same_answers(answers, expected)
    measured = [document.metrics(own) for document, own in zip(task.documents, expected, strict=True)]
    margins, normalized = [], []
    for own, document in zip(expected, task.documents, strict=True):
        gold, likelihoods = document.doc["gold"], [likelihood for likelihood, _ in own]
        lengths = [len(choice) for choice in document.choices]
        rates = [likelihood / length for likelihood, length in zip(likelihoods, lengths, strict=True)]
        margins.append(likelihoods.pop(gold) - max(likelihoods))
        normalized.append((rates.pop(gold) - max(rates)) * lengths[gold])
    assert scores.margins == pytest.approx(margins, abs=TOLERANCE)
    assert scores.margins_by_metric.keys() == {"acc_norm"}
    assert scores.margins_by_metric["acc_norm"] == pytest.approx(normalized, abs=10 * TOLERANCE)
    assert scores.metrics["acc_norm"] == tuple(float(value > 0) for value in scores.margins_by_metric["acc_norm"])
    names = ("acc", "acc_norm", "exact_match")
    assert scores.metrics == {name: tuple(item[name] for item in measured) for name in names}
    assert scores.values == pytest.approx(task.loaded.values(measured))
    assert 0 < scores.values["acc"] < 1 and scores.task == "subjects"
    assert scores.items == tuple(document.index for document in task.documents)


def test_texts_of_several_windows_have_the_likelihoods_of_their_windows_added_up(made: Made, answers: Answers) -> None:
    scores = score(made.network, made.texts)
    requests = [request for document in made.texts.documents for request in document.requests()]
    windows = [len(own) for own in tokenize_requests(requests, tiny_tokenizer(), MAX_LENGTH)]
    assert 0 in windows and 1 in windows and max(windows) > 2
    expected = expected_answers(made.model, made.texts, MAX_LENGTH)
    assert_same_answers(answers, expected)
    measured = [document.metrics(own) for document, own in zip(made.texts.documents, expected, strict=True)]
    assert scores.values == pytest.approx(made.texts.loaded.values(measured), rel=TOLERANCE)
    assert scores.margins == () and scores.metrics == {}


SMALL: dict[str, dict[str, int]] = {
    "head": {"HEAD_TOKENS": 3},
    "logits": {"CACHED_LOGITS": 1},
    "some-logits": {"CACHED_LOGITS": 2000, "HEAD_TOKENS": 7},
    "waves": {"WAVE_BATCHES": 1},
    "blocks": {"MANY_TOKENS": 1},
    "all": {"HEAD_TOKENS": 1, "CACHED_LOGITS": 1, "WAVE_BATCHES": 2, "MANY_TOKENS": 1},
}


@pytest.mark.parametrize("small", SMALL)
def test_the_scores_are_the_same_in_whatever_parts_they_are_computed(
    made: Made, answers: Answers, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = made.subjects, made.texts
    expected = [score(made.network, task) for task in tasks]
    at_once = answers.copy()
    answers.clear()
    for name, value in SMALL[small].items():
        assert value < getattr(scoring, name)
        monkeypatch.setattr(scoring, name, value)
    for task, scores in zip(tasks, expected, strict=True):
        assert_same_scores(score(made.network, task), scores)
    assert_same_answers(answers, at_once)


def test_batches_of_half_the_length_give_the_same_scores(made: Made, answers: Answers) -> None:
    for task, max_length in ((made.subjects, 2048), (made.texts, MAX_LENGTH)):
        scores, expected = score(made.network, task), expected_answers(made.model, task, max_length)
        rows = sum(len(group.batches) for group in task.prefix_groups)
        half = task.halved()
        quarter = half.halved()
        assert (half.batch_tokens, quarter.batch_tokens) == (task.batch_tokens // 2, task.batch_tokens // 4)
        assert sum(len(group.batches) for group in quarter.prefix_groups) > rows
        for smaller in (half, quarter):
            answers.clear()
            assert_same_scores(score(made.network, smaller), scores)
            assert_same_answers(answers, expected)
        assert replace(task, batch_tokens=1).halved().batch_tokens == 1


def in_int8(network: Decoder) -> Decoder:
    """The network in bfloat16, with norms that make outliers of many inputs, and its layers in INT8."""
    network = network.map(lambda tensor: (4 if tensor.ndim == 1 else 1) * tensor.bfloat16())
    return replace(network, layers=tuple(quantize_layer(layer) for layer in network.layers))


def in_every_company(task: PreparedTask) -> list[PreparedTask]:
    """The task in its rows, in rows of half the length, in one row, and each tree alone."""
    return [task, *(replace(task, batch_tokens=tokens).halved() for tokens in (task.batch_tokens, 2**13, 2))]


@pytest.mark.parametrize("small", [{}, SMALL["all"]], ids=["as-it-is", "in-small-parts"])
def test_an_item_s_answers_in_int8_are_the_same_to_the_last_bit_in_whatever_company(
    made: Made, answers: Answers, small: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = in_int8(made.network)
    found = []
    for name, value in small.items():
        monkeypatch.setattr(scoring, name, value)
    for task in (made.subjects, made.texts):
        company = in_every_company(task)
        assert len({len(group.batches) for again in company for group in again.prefix_groups}) >= 3
        for again in company:
            answers.clear()
            scores = score(network, again)
            found.append((answers.copy(), scores.margins))
        assert found.count(found[-1]) == len(found)
        found.clear()


def test_as_one_segment_a_batch_s_items_would_have_other_answers_in_int8(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = in_int8(made.network)
    right = score(network, made.subjects)
    monkeypatch.setattr(Int8Linear, "for_segments", lambda linear, segments: linear)
    assert max(np.abs(np.subtract(score(network, made.subjects).margins, right.margins))) > 0.01


GROUP = [
    Architecture(layers=layers, mlp_widths=widths, quantization=quantization)
    for layers, widths, quantization in (
        ((0, 1, 2, 4), (WIDTH, 7, 12, 1), "none"),
        ((0, 1, 2, 4), (WIDTH, 7, 12, 1), "int8"),
        ((0, 1, 2, 3, 4), (WIDTH, 7, 12, WIDTH, 5), "none"),
        ((0, 1, 2), (WIDTH, 7, 12), "none"),
        ((0, 1, 2), (WIDTH, 7, 12), "int8"),
        ((0, 2, 3), (6, 12, 0), "none"),
        ((0, 1, 2, 4), (WIDTH, 7, 11, 1), "none"),
    )
]


@pytest.mark.parametrize(
    ("dtype", "small"),
    [
        (torch.float32, {}),
        (torch.bfloat16, {"WAVE_BATCHES": 2, "MANY_TOKENS": 1}),
    ],
    ids=["whole", "blocked"],
)
def test_networks_that_are_scored_together_have_the_very_scores_of_each_alone(
    made: Made, dtype: torch.dtype, small: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in small.items():
        monkeypatch.setattr(scoring, name, value)
    weights = {name: tensor.to(dtype) for name, tensor in made.checkpoint.weights.items()}
    networks = made.checkpoint.cut_together(GROUP, weights)
    for task in (made.subjects, made.texts):
        steps: list[None] = []
        found = score_together(networks, task, lambda steps=steps: steps.append(None))  # type: ignore[misc]
        assert found == [score(made.checkpoint.cut(one, weights), task) for one in GROUP]
        assert len({scores.model_dump_json() for scores in found}) == len(GROUP)
        assert len(steps) == len(GROUP) * count_waves(task)


@pytest.fixture
def waves(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Any], Callable[[Layer], Layer]]]:
    """What goes through the network together, and how its layers are prepared."""
    noted: list[tuple[list[Any], Callable[[Layer], Layer]]] = []
    real = scoring.hidden_in_each

    def note(networks: Sequence[Decoder], reads: Any, prepare: Callable[[Layer], Layer]) -> Iterator[Any]:
        noted.append(([sequences for sequences, _ in reads], prepare))
        return real(networks, reads, prepare)

    monkeypatch.setattr(scoring, "hidden_in_each", note)
    return noted


def test_a_prefix_is_computed_once_in_each_wave_that_has_batches_after_it(
    made: Made, waves: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    score(made.network, made.subjects)
    assert [sum(isinstance(read, Prefix) for read in reads) for reads, _ in waves] == [2]
    waves.clear()
    monkeypatch.setattr(scoring, "WAVE_BATCHES", 2)
    score(made.network, made.subjects)
    assert len(waves) > 2
    for reads, _ in waves:
        known: list[Any] = []
        for read in reads:
            if isinstance(read, Prefix):
                assert read not in known
                known.append(read)
            else:
                assert read.prefix is known[-1]
        tokens = [len(read.tokens) for read in reads if not isinstance(read, Prefix)]
        assert len(tokens) == 1 or sum(tokens) <= 2 * made.subjects.batch_tokens
    rows = sum(len(group.batches) for group in made.subjects.prefix_groups)
    assert sum(not isinstance(read, Prefix) for reads, _ in waves for read in reads) == rows


def test_layers_are_reordered_only_for_many_tokens(
    made: Made, waves: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    score(made.network, made.subjects)
    tokens = sum(len(read.tokens) for read in waves[0][0])
    for many, reordered in ((tokens, True), (tokens + 1, False)):
        monkeypatch.setattr(scoring, "MANY_TOKENS", many)
        waves.clear()
        score(made.network, made.subjects)
        assert [prepare is blocked for _, prepare in waves] == [reordered]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 2 GB")])
def test_where_memory_runs_out_half_as_many_tokens_are_tried_once(
    made: Made, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    expected, tried = score(made.network, made.subjects), []
    real, enough = scoring._score, made.subjects.batch_tokens // 2

    def limited(networks: Sequence[Decoder], task: PreparedTask, progressed: ProgressCallback) -> list[ItemScores]:
        tried.append(task.batch_tokens)
        if task.batch_tokens > enough:
            raise error
        return real(networks, task, progressed)

    monkeypatch.setattr(scoring, "_score", limited)
    assert_same_scores(score(made.network, made.subjects), expected)
    assert tried == [2 * enough, enough]
    enough = 1
    with pytest.raises(type(error)):
        score(made.network, made.subjects)
    assert tried == [2 * (tried[0] // 2), tried[0] // 2] * 2


def test_other_errors_are_not_taken_for_a_lack_of_memory(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[None] = []

    def broken(*_: object) -> list[Tensor]:
        tried.append(None)
        raise RuntimeError("a bug")

    monkeypatch.setattr(scoring, "hidden_in_each", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        score(made.network, made.subjects)
    assert len(tried) == 1


@pytest.mark.parametrize("many", [1, 10**9], ids=["blocked", "plain"])
def test_scores_in_bfloat16_are_right_but_for_rounding(
    made: Made, answers: Answers, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "MANY_TOKENS", many)
    score(made.network.map(lambda tensor: tensor.bfloat16()), made.subjects)
    expected = expected_answers(made.model, made.subjects, 2048)
    found, exact = (
        torch.tensor([likelihood for item in given for likelihood, _ in item]) for given in (answers, expected)
    )
    assert 0 < (found - exact).abs().max() < 0.05 * exact.std()


def test_every_target_is_weighed_at_the_place_that_predicts_it(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(11, made.network.shape.hidden, generator=generator)
    at = torch.randint(11, (40,), generator=generator)
    targets = torch.randint(made.network.head.shape[0], (40,), generator=generator)
    logits = (states @ made.network.head.T).double()
    targets[::3] = logits.argmax(-1)[at[::3]]
    batch = ScoringBatch(pack([Tree.plain(range(11))]), torch.arange(11), at, targets, torch.zeros_like(at))
    for size in (1, 4, 11, 256):
        monkeypatch.setattr(scoring, "HEAD_TOKENS", size)
        found, greedy = scoring._predicted(made.network, states, batch)
        torch.testing.assert_close(found, logits.log_softmax(-1)[at, targets].float(), atol=1e-5, rtol=1e-5)
        assert torch.equal(greedy, logits.argmax(-1)[at] == targets)
