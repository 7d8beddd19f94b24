"""Items made ready to be scored, once for all networks: read, tokenised, folded into trees, packed into rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.utils import resolve_max_length
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from services.evaluator.tasks.loading import Document, LoadedTask
from services.evaluator.tokenisation import Continuation, tokenize_requests
from shared.digest import digest_json
from shared.errors import UserError
from shared.supernet.packing import Packed, Tree, pack

DEFAULT_LENGTH = 2048
"""lm-eval's, for a model that doesn't say how much it can read."""


@dataclass(frozen=True)
class ItemTree:
    """An item's continuations folded at their common beginning, so that the question is read once for all its choices.

    `places[c]` are where in the tree the tokens of continuation c are predicted, `targets[c]` those tokens.
    """

    tree: Tree
    places: tuple[tuple[int, ...], ...]
    targets: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Row:
    """Items that go through the network together: `items` are their indices, `places` and `targets` run over all their
    scored tokens (N,), `owners` (N,) says which continuation of the row each belongs to."""

    packed: Packed
    items: tuple[int, ...]
    continuations: tuple[int, ...]
    places: torch.Tensor
    targets: torch.Tensor
    owners: torch.Tensor


@dataclass(frozen=True)
class PreparedTask:
    """A task's items, ready. `golds[i]` are the right choices of item i among its `choices[i]`; `metrics` lm-eval's
    for it."""

    name: str
    origin: str
    documents: tuple[Document, ...]
    golds: tuple[tuple[int, ...], ...]
    choices: tuple[int, ...]
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    tokens: int
    digest: str


def prepare_task(
    name: str,
    loaded: LoadedTask,
    tokenizer: PreTrainedTokenizerBase,
    config: PretrainedConfig,
    device: torch.device,
    row_tokens: int,
) -> PreparedTask:
    """Make a loaded task ready; a row has at most `row_tokens` tokens, unless a single item is longer.

    Raises UserError for an item that can't be scored.
    """
    max_length = resolve_max_length(config, tokenizer, default=DEFAULT_LENGTH)
    requests = [_requests(document) for document in loaded.documents]
    flat = tokenize_requests([request for item in requests for request in item], tokenizer, max_length)
    trees, golds, choices, start = [], [], [], 0
    for document, item in zip(loaded.documents, requests, strict=True):
        continuations = flat[start : start + len(item)]
        start += len(item)
        if any(not 0 < len(continuation.targets) <= max_length for continuation in continuations):
            raise UserError(
                f"tasks.{name}: item {document.index} has an empty choice or one longer than the model can read"
            )
        trees.append(fold(continuations))
        golds.append(_golds(document))
        choices.append(len(document.task.doc_to_choice(document.doc)))
    return PreparedTask(
        name=name,
        origin=loaded.origin,
        documents=loaded.documents,
        golds=tuple(golds),
        choices=tuple(choices),
        metrics=tuple(loaded.documents[0].task.aggregation()),
        rows=tuple(_rows(trees, device, row_tokens)),
        tokens=sum(len(tree.tree) for tree in trees),
        digest=digest_json([[tree.tree.tokens, tree.targets, gold] for tree, gold in zip(trees, golds, strict=True)]),
    )


def fold(continuations: Sequence[Continuation]) -> ItemTree:
    """Put the longest common beginning of all inputs into the trunk, and the rest of each into a branch of its own."""
    inputs = [continuation.inputs for continuation in continuations]
    trunk = next(
        (index for index, tokens in enumerate(zip(*inputs, strict=False)) if len(set(tokens)) > 1),
        min(len(tokens) for tokens in inputs),
    )
    tokens, positions, branches = list(inputs[0][:trunk]), list(range(trunk)), [0] * trunk
    places = []
    for number, continuation in enumerate(continuations, start=1):
        start, rest = len(tokens), continuation.inputs[trunk:]
        tokens += rest
        positions += range(trunk, len(continuation.inputs))
        branches += [number] * len(rest)
        read = range(len(continuation.inputs) - len(continuation.targets), len(continuation.inputs))
        places.append(tuple(place if place < trunk else start + place - trunk for place in read))
    return ItemTree(Tree(tokens, positions, branches), tuple(places), tuple(c.targets for c in continuations))


def _requests(document: Document) -> list[Instance]:
    made = document.task.construct_requests(document.doc, document.context, metadata=(document.task.task_name, 0, 1))
    return list(made) if isinstance(made, list) else [made]


def _golds(document: Document) -> tuple[int, ...]:
    """Indices of the right choices, as lm-eval's process_results finds them."""
    task, doc = document.task, document.doc
    gold: Any = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    choices = task.doc_to_choice(doc)
    listed = gold if isinstance(gold, list) else [gold]
    indices = tuple(choices.index(entry) if isinstance(entry, str) else int(entry) for entry in listed)
    if not all(0 <= index < len(choices) for index in indices):
        raise UserError(
            f"tasks.{task.task_name}: item {document.index} names a right answer that is none of its choices"
        )
    return indices


def _rows(trees: Sequence[ItemTree], device: torch.device, row_tokens: int) -> Iterator[Row]:
    """Items of similar length share a row, the longest first, so that memory runs out at once or not at all."""
    order = sorted(range(len(trees)), key=lambda index: -len(trees[index].tree))
    row: list[int] = []
    filled = 0
    for index in order:
        length = len(trees[index].tree)
        if row and filled + length > row_tokens:
            yield _row(trees, row, device)
            row, filled = [], 0
        row.append(index)
        filled += length
    if row:
        yield _row(trees, row, device)


def _row(trees: Sequence[ItemTree], items: Sequence[int], device: torch.device) -> Row:
    packed = pack([trees[index].tree for index in items], device)
    places: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    owner = 0
    for index, start in zip(items, packed.starts, strict=True):
        for where, tokens in zip(trees[index].places, trees[index].targets, strict=True):
            places += [start + place for place in where]
            targets += tokens
            owners += [owner] * len(tokens)
            owner += 1
    return Row(
        packed=packed,
        items=tuple(items),
        continuations=tuple(len(trees[index].targets) for index in items),
        places=torch.tensor(places, device=device),
        targets=torch.tensor(targets, device=device),
        owners=torch.tensor(owners, device=device),
    )
