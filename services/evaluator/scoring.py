"""Scores of a network on prepared items: log-likelihoods as lm-eval defines them, then lm-eval's own metrics."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from services.evaluator.batches import ScoringBatch
from services.evaluator.memory import is_out_of_memory
from services.evaluator.progress_callback import ProgressCallback, ignore_progress
from shared.messages import ItemScores
from shared.supernet.blocked import blocked
from shared.supernet.decoder import Decoder, Sequences
from shared.supernet.prefix import Prefix

if TYPE_CHECKING:  # lm-eval isn't loaded, as nothing here needs it
    from services.evaluator.preparation import PreparedTask

HEAD_TOKENS = 256
"""Places that go through the language head at a time: a vocabulary of 128,000 in bfloat16 makes 66 MB of them."""
WAVE_BATCHES = 8
"""Batches that go through the network together, layer by layer: each layer is prepared once for so many, and a prefix
computed once; their states are held meanwhile."""
MANY_TOKENS = 4096
"""From so many tokens on it pays to reorder a layer's weights for them."""
CACHED_LOGITS = 2**20
"""Logits that are summed up at a time: 4 MB in float32, which stay in the cache."""
GPU_HEAD_TOKENS = 2048
"""HEAD_TOKENS of a GPU, which few rows don't fill."""
GPU_LOGITS = 2**26
"""CACHED_LOGITS of a GPU: 268 MB in float32."""


def score(network: Decoder, task: "PreparedTask", progressed: ProgressCallback = ignore_progress) -> ItemScores:
    """Score every item of a task; `progressed` is called after each wave. Where memory runs out, it is tried once more
    with half as many tokens at a time.
    """
    try:
        return _score(network, task, progressed)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    torch.cuda.empty_cache()  # not within `except`: the error would hold on to what filled the memory
    return _score(network, task.halved(), progressed)


def count_waves(task: "PreparedTask") -> int:
    """How often `score` calls `progressed`."""
    return sum(1 for _ in _waves(task))


@torch.inference_mode()
def _score(network: Decoder, task: "PreparedTask", progressed: ProgressCallback) -> ItemScores:
    likelihoods = torch.zeros(sum(task.requests), dtype=torch.float64)
    misses = torch.zeros(sum(task.requests), dtype=torch.long)
    for wave in _waves(task):
        _score_wave(network, wave, likelihoods, misses)
        progressed()
    flat = list(zip(likelihoods.tolist(), (misses == 0).tolist(), strict=True))
    measured, margins, start = [], [], 0
    for index, (document, requests) in enumerate(zip(task.documents, task.requests, strict=True)):
        answers = flat[start : start + requests]
        start += requests
        measured.append(document.metrics(answers))
        if task.golds[index]:
            choices = [likelihood for likelihood, _ in answers[: task.choices[index]]]
            margins.append(_margin(choices, task.golds[index]))
    metrics: dict[str, list[float]] = {}
    for item in measured:
        for name, value in item.items():
            if isinstance(value, int | float):  # others, such as perplexity's pairs, have no value for a single item
                metrics.setdefault(name, []).append(float(value))
    return ItemScores(
        task=task.name,
        items=tuple(document.index for document in task.documents),
        items_digest=task.digest,
        metrics={name: tuple(values) for name, values in metrics.items() if len(values) == len(task.documents)},
        values=task.loaded.values(measured),
        margins=tuple(margins) if len(margins) == len(task.documents) else (),
        clusters=task.loaded.clusters,
        even=task.loaded.even,
    )


Wave = list[tuple[Sequences, ScoringBatch | None]]
"""What goes through a network together: prefixes (without a batch), each followed by the batches that continue it."""


def _waves(task: "PreparedTask") -> Iterator[Wave]:
    """A task's batches, as many at a time as memory is meant for."""
    wave: Wave = []
    filled = 0
    for group in task.prefix_groups:
        prefix = None if group.prefix_row is None else Prefix(group.prefix_row)
        begun = prefix is None
        for batch in group.batches:
            coming = len(batch.packed.tokens) + (0 if begun else len(group.prefix))
            if filled and filled + coming > WAVE_BATCHES * task.batch_tokens:
                yield wave
                wave, filled, begun = [], 0, prefix is None
            if prefix is not None and not begun:
                wave.append((prefix, None))
                filled += len(group.prefix)
                begun = True
            wave.append((batch.packed.after(prefix), batch))
            filled += len(batch.packed.tokens)
    if wave:
        yield wave


def _score_wave(network: Decoder, wave: Wave, likelihoods: Tensor, misses: Tensor) -> None:
    """Add to the log-likelihood of each request, and to the number of its tokens that are not the likeliest."""
    many = sum(len(sequences.tokens) for sequences, _ in wave) >= MANY_TOKENS
    states = network.hidden_together((sequences for sequences, _ in wave), blocked if many else lambda layer: layer)
    batches = [(batch, state) for (_, batch), state in zip(wave, states, strict=True) if batch is not None]
    found, greedy = zip(*(_predicted(network, state[batch.places], batch) for batch, state in batches), strict=True)
    # They leave a GPU together: nothing waits for it before a wave is done.
    likelihood, missed = torch.cat(found).double().cpu(), (~torch.cat(greedy)).long().cpu()
    sizes = [len(batch.owners) for batch, _ in batches]
    for (batch, _), own, own_missed in zip(
        batches, torch.split(likelihood, sizes), torch.split(missed, sizes), strict=True
    ):
        likelihoods.index_add_(0, batch.owners, own)
        misses.index_add_(0, batch.owners, own_missed)


def _predicted(network: Decoder, states: Tensor, batch: ScoringBatch) -> tuple[Tensor, Tensor]:
    """Log-probability (N,) of each target after the state (of (P, hidden)) that it is predicted at, and whether no
    token is likelier (N,)."""
    on_cpu = states.device.type == "cpu"
    places, most_logits = (HEAD_TOKENS, CACHED_LOGITS) if on_cpu else (GPU_HEAD_TOKENS, GPU_LOGITS)
    found = torch.empty(len(batch.targets), dtype=torch.float32, device=states.device)
    greedy = torch.empty(len(batch.targets), dtype=torch.bool, device=states.device)
    for part in batch.parts(places):
        logits = network.logits(states[part.places])
        chosen = logits[part.at, part.targets].float()
        size = max(1, most_logits // logits.shape[1])
        totals = torch.cat([_totals(piece.float()) for piece in torch.split(logits, size)])
        found[part.which] = chosen - totals[part.at]
        greedy[part.which] = chosen >= logits.amax(-1)[part.at].float()
    return found, greedy


def _totals(logits: Tensor) -> Tensor:
    """Logarithm of the sum of the exponentials of logits (P, vocabulary), (P,): by log_softmax, which torch computes in
    one go on a CPU, where logsumexp takes a pass for each of its steps."""
    return logits[:, 0] - F.log_softmax(logits, dim=-1)[:, 0]


def _margin(likelihoods: list[float], golds: tuple[int, ...]) -> float:
    right = max(likelihoods[index] for index in golds)
    wrong = [value for index, value in enumerate(likelihoods) if index not in golds]
    return right - max(wrong, default=right)
