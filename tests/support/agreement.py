"""The same items scored by our scorer and by lm-eval's own `hf` model, and where the two differ."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedTokenizerBase

from services.evaluator.preparation import prepare_task
from services.evaluator.scoring import score
from services.evaluator.tasks.index import task_manager
from services.evaluator.tasks.loading import Document, LoadedTask, load_items
from services.evaluator.tasks.local import local_data
from shared.architecture import Architecture
from shared.messages import ItemScores, TaskItems
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.tokenizer import load_tokenizer

TOLERANCE = 1e-4
"""Largest relative difference of two numbers that count as equal: what the order of float32 sums may do."""

Answer = tuple[float, bool | None]
"""Log-likelihood of a request and whether it is the greedy choice, which lm-eval doesn't say of a whole text."""


@dataclass(frozen=True)
class Answers:
    """One side's, by the item's index in the split: for each request, for each metric; and the metrics of all."""

    likelihoods: dict[int, list[Answer]]
    metrics: dict[int, dict[str, Any]]
    values: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """One task's items as both have scored the same network."""

    scores: ItemScores
    ours: Answers
    theirs: Answers

    @property
    def requests(self) -> int:
        """How many log-likelihoods there are on either side."""
        return sum(map(len, self.theirs.likelihoods.values()))

    def likelihood_difference(self) -> float:
        """The largest relative difference of a log-likelihood."""
        return max(relative_difference(ours[0], theirs[0]) for _, ours, theirs in self._answers())

    def greedy_differences(self) -> list[int]:
        """The items with a request that is the greedy choice for one side only."""
        return sorted({item for item, ours, theirs in self._answers() if ours[1] != theirs[1]})

    def metric_differences(self) -> list[str]:
        """In words, every metric of an item that is not the same, to `TOLERANCE` where it is no whole number."""
        return [
            f"item {item}: {name} {found!r}, lm-eval's {expected!r}"
            for item, metrics in self.theirs.metrics.items()
            for name, expected in metrics.items()
            if not _same(found := self.ours.metrics[item][name], expected)
        ]

    def _answers(self) -> Iterator[tuple[int, Answer, Answer]]:
        """The item and both answers of every request."""
        for item, expected in self.theirs.likelihoods.items():
            for ours, theirs in zip(self.ours.likelihoods[item], expected, strict=True):
                yield item, ours, theirs


def relative_difference(found: float, expected: float) -> float:
    """How far a number is from what is expected, as a share of that; infinite where there is no such share."""
    if found == expected:
        return 0.0
    share = abs(found - expected) / abs(expected) if expected else math.inf
    return math.inf if math.isnan(share) else share


def _same(found: Any, expected: Any) -> bool:
    """Whether two metrics are equal: numbers, or what an aggregation needs in place of one (pairs, arrays)."""
    if isinstance(expected, Real):
        return relative_difference(found, expected) <= TOLERANCE
    return len(found) == len(expected) and all(map(_same, found, expected))


def comparisons(
    checkpoint: Checkpoint,
    architecture: Architecture | None,
    reference: HFLM,
    tasks: Sequence[TaskItems],
    data: Path | None,
    batch_tokens: int,
) -> Iterator[Comparison]:
    """Score the tasks' items in float32 by both, those with equally many examples in the same form together.

    `architecture` (default: the whole network) is what our side cuts out of the checkpoint, `reference` the same
    network in lm-eval's hands.
    """
    network = checkpoint.cut(architecture).map(lambda tensor: tensor.float())
    tokenizer = load_tokenizer(checkpoint.directory)
    for form in dict.fromkeys(map(form_of, tasks)):
        ours: dict[str, tuple[ItemScores, Answers]] = {}
        for asked in tasks:
            if form_of(asked) == form:
                loaded = loaded_items(asked, data, tokenizer if asked.apply_chat_template else None)
                device = torch.device("cpu")
                prepared = prepare_task(asked.task, loaded, tokenizer, checkpoint.config, device, batch_tokens)
                with recorded() as seen:
                    scores = score(network, prepared)
                ours[asked.task] = scores, Answers(*seen, scores.values)
        items = {task: scores.items for task, (scores, _) in ours.items()}
        theirs = lm_eval_answers(reference, items, form, data)
        for task, (scores, answers) in ours.items():
            yield Comparison(scores, answers, theirs[task])


Form = tuple[int | None, bool | str, bool]
"""How many examples, whether by a chat template, and whether as turns: what `simple_evaluate` takes for all tasks."""


def form_of(asked: TaskItems) -> Form:
    return asked.num_fewshot, asked.apply_chat_template, asked.fewshot_as_multiturn


@cache
def loaded_items(asked: TaskItems, data: Path | None, tokenizer: PreTrainedTokenizerBase | None = None) -> LoadedTask:
    """The asked items, all of them, loaded once however many networks are compared on them."""
    loaded = load_items(asked, data, tokenizer)
    assert len(loaded.documents) == asked.stop - asked.start
    return loaded


@contextmanager
def recorded() -> Iterator[tuple[dict[int, list[Answer]], dict[int, dict[str, Any]]]]:
    """While this lasts, what the scorer makes an item's metrics from, and the metrics, are kept by the item's index."""
    likelihoods: dict[int, list[Answer]] = {}
    metrics: dict[int, dict[str, Any]] = {}
    original = Document.metrics

    def recording(document: Document, answers: Sequence[tuple[float, bool]]) -> dict[str, Any]:
        likelihoods[document.index] = [(value, None if document.rolling else greedy) for value, greedy in answers]
        metrics[document.index] = original(document, answers)
        return metrics[document.index]

    with patch.object(Document, "metrics", recording):
        yield likelihoods, metrics


def lm_eval_answers(
    reference: HFLM, items: dict[str, tuple[int, ...]], form: Form, data: Path | None
) -> dict[str, Answers]:
    """What lm-eval's `simple_evaluate` finds for some items of each task."""
    num_fewshot, apply_chat_template, fewshot_as_multiturn = form
    with local_data(data):
        found = simple_evaluate(
            model=reference,
            tasks=list(items),
            num_fewshot=num_fewshot,
            apply_chat_template=apply_chat_template,
            fewshot_as_multiturn=fewshot_as_multiturn,
            # lm-eval mistakes one item for another if they aren't ascending.
            samples={task: sorted(indices) for task, indices in items.items()},
            task_manager=task_manager(),
            bootstrap_iters=0,
            log_samples=True,
        )
    assert found is not None
    return {task: _lm_eval_answers(found["samples"][task], found["results"][task]) for task in items}


def _lm_eval_answers(samples: list[dict[str, Any]], values: dict[str, float]) -> Answers:
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
