"""Scores of a network on prepared items: log-likelihoods as lm-eval defines them, then lm-eval's own metrics."""

import torch
from torch import Tensor

from services.evaluator.preparation import PreparedTask, Row
from shared.messages import ItemScores
from shared.supernet.decoder import Decoder

HEAD_TOKENS = 256
"""Scored tokens that go through the language head at a time: a vocabulary of 128,000 in float32 makes 131 MB of
them."""


@torch.inference_mode()
def score(network: Decoder, task: PreparedTask) -> ItemScores:
    """Score every item of a task."""
    answers: dict[int, list[tuple[float, bool]]] = {}
    for row in task.rows:
        answers |= _score_row(network, row)
    metrics: dict[str, list[float]] = {}
    margins = []
    for index, document in enumerate(task.documents):
        for name, value in document.task.process_results(document.doc, answers[index]).items():
            if isinstance(value, int | float):  # others, such as F1's pairs, have no value for a single item
                metrics.setdefault(name, []).append(float(value))
        margins.append(_margin([answer[0] for answer in answers[index][: task.choices[index]]], task.golds[index]))
    return ItemScores(
        task=task.name,
        items=tuple(document.index for document in task.documents),
        items_digest=task.digest,
        metrics={name: tuple(values) for name, values in metrics.items() if len(values) == len(task.documents)},
        margins=tuple(margins),
    )


def _score_row(network: Decoder, row: Row) -> dict[int, list[tuple[float, bool]]]:
    """For every item of the row and each of its continuations, log-likelihood and whether it is the greedy choice."""
    states = network.hidden(row.packed)[row.places]
    likelihoods, greedy = _targets(network, states, row.targets)
    count = sum(row.continuations)
    sums = torch.zeros(count, dtype=torch.float64, device=states.device).index_add_(0, row.owners, likelihoods.double())
    misses = torch.zeros(count, dtype=torch.long, device=states.device).index_add_(0, row.owners, (~greedy).long())
    flat = list(zip(sums.tolist(), (misses == 0).tolist(), strict=True))
    answers, start = {}, 0
    for item, continuations in zip(row.items, row.continuations, strict=True):
        answers[item] = flat[start : start + continuations]
        start += continuations
    return answers


def _targets(network: Decoder, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability (N,) of each target after its state (N, hidden), and whether it is the likeliest word (N,)."""
    likelihoods, greedy = [], []
    for part, wanted in zip(torch.split(states, HEAD_TOKENS), torch.split(targets, HEAD_TOKENS), strict=True):
        logits = network.logits(part).float()
        chosen = logits.gather(1, wanted.unsqueeze(1)).squeeze(1)
        likelihoods.append(chosen - logits.logsumexp(-1))
        greedy.append(logits.argmax(-1) == wanted)
    return torch.cat(likelihoods), torch.cat(greedy)


def _margin(likelihoods: list[float], golds: tuple[int, ...]) -> float:
    right = max(likelihoods[index] for index in golds)
    wrong = [value for index, value in enumerate(likelihoods) if index not in golds]
    return right - max(wrong, default=right)
