"""Verification of Hugging Face exports: by transformers, as whoever downloads one loads it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from services.application.export.verification.float32 import in_float32
from services.application.export.verification.protocol import DifferentExportError, Verification
from services.application.export.verification.verified_items import VerifiedItems
from services.evaluator.batches import Continuation
from services.evaluator.scoring import score
from services.evaluator.tasks.loading import Document
from services.exporter.network import ExportedNetwork
from shared.errors import UserError, first_line
from shared.supernet.decoder import Decoder
from shared.supernet.packing import pack
from shared.supernet.tree import Tree

TOLERANCE = 2e-3
"""Of log-probabilities in float32, where both engines round differently, a few 1e-5 as a rule; a wrong export is off by
0.1 and more."""
TIE = 10 * TOLERANCE
"""An item whose best answers are so close may be answered otherwise."""
ALIKE_IN_INT8 = 0.9
"""Share of items to be answered alike in INT8, whose rounding amplifies what is 1e-5 in float32."""
DIVERGENCE_IN_INT8 = 0.015
"""Nats by which next tokens' distributions may diverge (Kullback-Leibler) in INT8, in the mean over an item's tokens,
for half of the items. SmolLM2-135M's exports have 0.006; a network that isn't in INT8, or has one MLP of another width,
has 0.03 and more."""


class HuggingFaceVerifier:
    """Compares with transformers' own computation, both in float32 (INT8 layers apart) whatever the weights are held
    in: so nothing but the network itself can make a difference."""

    def tokens(self, items: VerifiedItems) -> int:
        """Each window here and there, and the items once more by our scorer."""
        return 2 * items.tokens + sum(task.tokens for task in items.tasks)

    def steps(self, items: VerifiedItems) -> int:
        """One for each item."""
        return len(items.windows)

    @torch.inference_mode()
    def verify(
        self, network: ExportedNetwork, directory: Path, items: VerifiedItems, progressed: Callable[[], None]
    ) -> Verification:
        """As the protocol says."""
        model = _loaded(directory)
        int8 = network.architecture.quantization == "int8"
        ours = in_float32(network)
        differences, divergences, answers = [], [], []
        for windows in items.windows:
            # In INT8 it matters what is read together: bitsandbytes spares columns in which any token has an outlier.
            batches = [(window,) for window in windows] if int8 else [windows]
            theirs = [found for batch in batches for found in _log_probabilities(model, batch)]
            mine = _our_log_probabilities(ours, windows)
            differences.append(_largest_difference(theirs, mine))
            divergences.append(_divergence(theirs, mine))
            answers.append([_answer(*pair) for pair in zip(theirs, windows, strict=True)])
            progressed()
        largest = float(torch.stack(differences).max())
        different = _answered_otherwise(ours, items, answers)
        scored = sum(len(task.documents) for task in items.tasks)
        found = Verification(
            engine=f"transformers {transformers.__version__}",
            origin=items.origin,
            tokens=items.tokens,
            largest_difference=largest,
            items=scored,
            alike=scored - len(different),
        )
        if int8:
            usual = float(torch.stack(divergences).median())
            same = found.alike >= ALIKE_IN_INT8 * scored and isfinite(largest) and usual <= DIVERGENCE_IN_INT8
        else:
            same = largest <= TOLERANCE and all(margin <= TIE for margin in different)
        if not same:
            raise DifferentExportError(
                f"the export is not the network that was measured, and was removed: {found.in_words()}; this is a "
                "fault of nasfarm or of the engine's release, please report it; --no-verify exports all the same"
            )
        return found


def _loaded(directory: Path) -> PreTrainedModel:
    """The export, with the modelling file that lies beside its weights: we have just written it."""
    with _as_different():
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float32, trust_remote_code=True
        )
    return model


@contextmanager
def _as_different() -> Iterator[None]:
    """An export that transformers, which raises many kinds of errors, can't compute is a wrong one."""
    try:
        yield
    except Exception as error:
        raise DifferentExportError(
            f"the export can't be run by transformers {transformers.__version__}, and was removed "
            f"({first_line(error)}); --no-verify exports all the same"
        ) from error


def _log_probabilities(model: PreTrainedModel, windows: Sequence[Continuation]) -> list[Tensor]:
    """Of every word after every token of each window, (tokens, vocabulary). Padding on the right is seen by none."""
    longest = max(len(window.inputs) for window in windows)
    rows = [[*window.inputs, *[window.inputs[-1]] * (longest - len(window.inputs))] for window in windows]
    seen = [[1] * len(window.inputs) + [0] * (longest - len(window.inputs)) for window in windows]
    with _as_different():
        logits = model(input_ids=torch.tensor(rows), attention_mask=torch.tensor(seen)).logits
    return [row[: len(window.inputs)].float().log_softmax(-1) for row, window in zip(logits, windows, strict=True)]


def _our_log_probabilities(network: Decoder, windows: Sequence[Continuation]) -> list[Tensor]:
    packed = pack([Tree.plain(window.inputs) for window in windows])
    found = network.logits(network.hidden(packed)).float().log_softmax(-1)
    starts = zip(packed.starts, windows, strict=True)
    return [found[start : start + len(window.inputs)] for start, window in starts]


def _largest_difference(theirs: Sequence[Tensor], ours: Sequence[Tensor]) -> Tensor:
    return torch.stack([(one - other).abs().max() for one, other in zip(theirs, ours, strict=True)]).max()


def _divergence(theirs: Sequence[Tensor], ours: Sequence[Tensor]) -> Tensor:
    """The mean over all tokens of all windows of the Kullback-Leibler divergence of our distribution from theirs."""
    return torch.cat([(one.exp() * (one - other)).sum(-1) for one, other in zip(theirs, ours, strict=True)]).mean()


def _answer(log_probabilities: Tensor, window: Continuation) -> tuple[float, bool]:
    """Log-likelihood of a window's targets, and whether each is the likeliest token."""
    targets = torch.tensor(window.targets)
    predicting = log_probabilities[len(window.inputs) - len(targets) :]
    likelihood = predicting.gather(1, targets[:, None]).double().sum()
    return float(likelihood), bool((predicting.argmax(-1) == targets).all())


def _answered_otherwise(
    ours: Decoder, items: VerifiedItems, answers: Sequence[list[tuple[float, bool]]]
) -> list[float]:
    """By how much our scorer's right answer is above or below the best wrong one, of each item that the log-likelihoods
    of transformers answer otherwise."""
    following, different = iter(answers), list[float]()
    for task, metric in zip(items.tasks, items.metrics, strict=True):
        scores = score(ours, task)
        for document, mine, margin in zip(task.documents, scores.metrics[metric], scores.margins, strict=True):
            if _metric(document, metric, next(following)) != mine:
                different.append(abs(margin))
    return different


def _metric(document: Document, metric: str, answers: list[tuple[float, bool]]) -> float:
    value = document.metrics(answers)[metric]
    if not isinstance(value, int | float):
        raise UserError(f"{metric} has no value for a single item, so that an export can't be verified by it")
    return float(value)
