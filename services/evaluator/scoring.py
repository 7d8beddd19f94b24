"""Scores of a network on prepared items: log-likelihoods as lm-eval defines them, then lm-eval's own metrics."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from services.evaluator.batches import ScoringBatch
from services.evaluator.margins import margin, margins_by_metric
from services.evaluator.memory import is_out_of_memory
from services.evaluator.progress_callback import ProgressCallback, ignore_progress
from shared.messages import ItemScores
from shared.supernet.blocked import blocked
from shared.supernet.decoder import Decoder, Sequences
from shared.supernet.layer_tree import hidden_in_each
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
        (scores,) = _score([network], task, progressed)
        return scores
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    torch.cuda.empty_cache()  # not within `except`: the error would hold on to what filled the memory
    (scores,) = _score([network], task.halved(), progressed)
    return scores


def score_together(
    networks: Sequence[Decoder], task: "PreparedTask", progressed: ProgressCallback = ignore_progress
) -> list[ItemScores]:
    """`score` each of some networks of one super-network. Layers that they share (`Checkpoint.cut_together`) are
    computed once, and the answers are those of each alone; `progressed` is called after each wave for each network.

    Where memory runs out for several networks, that is raised: the tokens are those that each has alone, where there
    may be room for them, and fewer would be rounded otherwise.
    """
    return [score(networks[0], task, progressed)] if len(networks) == 1 else _score(networks, task, progressed)


def count_waves(task: "PreparedTask") -> int:
    """How often `score` calls `progressed`."""
    return sum(1 for _ in _waves(task))


@dataclass(frozen=True)
class _Answers:
    """Of each request of a task the log-likelihood so far, and how many of its tokens are not the likeliest."""

    likelihoods: Tensor
    misses: Tensor

    @classmethod
    def none(cls, requests: int) -> "_Answers":
        return cls(torch.zeros(requests, dtype=torch.float64), torch.zeros(requests, dtype=torch.long))

    def add(self, batches: Sequence[ScoringBatch], likelihoods: Tensor, misses: Tensor) -> None:
        """Add what was found of the targets of some batches, one after another."""
        sizes = [len(batch.owners) for batch in batches]
        parts = zip(batches, torch.split(likelihoods, sizes), torch.split(misses, sizes), strict=True)
        for batch, own, own_misses in parts:
            self.likelihoods.index_add_(0, batch.owners, own)
            self.misses.index_add_(0, batch.owners, own_misses)


@torch.inference_mode()
def _score(networks: Sequence[Decoder], task: "PreparedTask", progressed: ProgressCallback) -> list[ItemScores]:
    answers = [_Answers.none(sum(task.requests)) for _ in networks]
    for wave in _waves(task):
        _score_wave(networks, wave, answers, progressed)
    return [_item_scores(task, each) for each in answers]


def _item_scores(task: "PreparedTask", answered: _Answers) -> ItemScores:
    flat = list(zip(answered.likelihoods.tolist(), (answered.misses == 0).tolist(), strict=True))
    measured, margins, start = [], list[float](), 0
    others: dict[str, list[float]] = {}
    for index, (document, requests) in enumerate(zip(task.documents, task.requests, strict=True)):
        answers = flat[start : start + requests]
        start += requests
        measured.append(document.metrics(answers))
        if task.golds[index]:
            choices, golds = task.choices[index], task.golds[index]
            likelihoods = [likelihood for likelihood, _ in answers]
            margins.append(margin(likelihoods[: len(choices)], golds))
            for name, value in margins_by_metric(likelihoods, choices, golds, measured[-1]).items():
                others.setdefault(name, []).append(value)
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
        margins_by_metric={
            name: tuple(values) for name, values in others.items() if len(values) == len(task.documents)
        },
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


def _score_wave(
    networks: Sequence[Decoder], wave: Wave, answers: Sequence[_Answers], progressed: ProgressCallback
) -> None:
    """Add what a wave says to the answers of each network."""
    many = sum(len(sequences.tokens) for sequences, _ in wave) >= MANY_TOKENS
    nowhere = torch.empty(0, dtype=torch.long, device=wave[0][0].tokens.device)
    wanted = [(sequences, nowhere if batch is None else batch.places) for sequences, batch in wave]
    hidden = hidden_in_each(networks, wanted, blocked if many else lambda layer: layer)
    for network, states in groupby(hidden, lambda each: each[0]):
        batches, found, greedy = list[ScoringBatch](), list[Tensor](), list[Tensor]()
        for _, number, state in states:
            batch = wave[number][1]
            if batch is not None:
                batches.append(batch)
                likelihood, likeliest = _predicted(networks[network], state, batch)
                found.append(likelihood)
                greedy.append(likeliest)
        # They leave a GPU together: nothing waits for it before a network is done with a wave.
        answers[network].add(batches, torch.cat(found).double().cpu(), (~torch.cat(greedy)).long().cpu())
        progressed()


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
