"""Items made ready to be scored, once for all networks: loaded, tokenised, merged into trees, packed into batches."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.utils import resolve_max_length
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from services.evaluator.batches import Continuation, PrefixGroup, batches_of, prefix_group
from services.evaluator.tasks.loading import Document, LoadedTask
from services.evaluator.tokenisation import tokenize_requests
from shared.digest import digest_json
from shared.errors import UserError
from shared.supernet.tokenizer import require_embedded

DEFAULT_LENGTH = 2048
"""lm-eval's, for a model whose config names no greatest length."""


@dataclass(frozen=True)
class PreparedTask:
    """A task's items, ready.

    `loaded.documents[i]` has `requests[i]` requests, numbered through; `golds[i]` are its right choices among its
    `choices[i]`; `metrics` lm-eval's of the task; `tokens` how many a network processes for it.
    """

    name: str
    loaded: LoadedTask
    requests: tuple[int, ...]
    golds: tuple[tuple[int, ...], ...]
    choices: tuple[tuple[str, ...], ...]
    metrics: tuple[str, ...]
    prefix_groups: tuple[PrefixGroup, ...]
    batch_tokens: int
    device: torch.device
    tokens: int
    digest: str

    @property
    def documents(self) -> tuple[Document, ...]:
        """The items."""
        return self.loaded.documents

    @property
    def origin(self) -> str:
        """Where the data came from."""
        return self.loaded.origin

    def in_batches_of(self, tokens: int) -> "PreparedTask":
        """The same in batches of at most so many tokens; itself where they are so already."""
        if tokens == self.batch_tokens:
            return self
        prefix_groups = (
            replace(group, batches=tuple(batches_of(group.members, tokens, self.device)))
            for group in self.prefix_groups
        )
        return replace(self, prefix_groups=tuple(prefix_groups), batch_tokens=tokens)

    def halved(self) -> "PreparedTask":
        """The same in batches of half the length."""
        return self.in_batches_of(max(1, self.batch_tokens // 2))


def prepare_task(
    name: str,
    loaded: LoadedTask,
    tokenizer: PreTrainedTokenizerBase,
    config: PretrainedConfig,
    device: torch.device,
    batch_tokens: int,
) -> PreparedTask:
    """Make a loaded task ready; a batch has at most `batch_tokens` tokens, unless a single tree is longer.

    Raises UserError for an item that can't be scored.
    """
    max_length = resolve_max_length(config, tokenizer, default=DEFAULT_LENGTH)
    requests = [document.requests() for document in loaded.documents]
    windows = _windows(requests, tokenizer, max_length)
    numbers = (token for request in windows for window in request for token in (*window.inputs, *window.targets))
    require_embedded(numbers, config.vocab_size, tokenizer)
    subjects: dict[int, list[list[tuple[int, Continuation]]]] = {}
    start = 0
    for document, item in zip(loaded.documents, requests, strict=True):
        numbered = [(number, window) for number in range(start, start + len(item)) for window in windows[number]]
        start += len(item)
        if not document.rolling and any(not 0 < len(window.targets) <= max_length for _, window in numbered):
            raise UserError(
                f"tasks.{name}: item {document.index} has an empty choice or one longer than the model can read"
            )
        # The windows of a text have nothing in common: each is a tree of its own.
        subjects.setdefault(id(document.task), []).extend([[w] for w in numbered] if document.rolling else [numbered])
    prefix_groups = tuple(prefix_group(items, device, batch_tokens) for items in subjects.values() if items)
    golds = tuple(document.golds() for document in loaded.documents)
    return PreparedTask(
        name=name,
        loaded=loaded,
        requests=tuple(len(item) for item in requests),
        golds=golds,
        choices=tuple(document.choices for document in loaded.documents),
        metrics=tuple(loaded.documents[0].task.aggregation()),
        prefix_groups=prefix_groups,
        batch_tokens=batch_tokens,
        device=device,
        tokens=sum(len(group.prefix) + sum(len(member.tree) for member in group.members) for group in prefix_groups),
        digest=digest_json(
            [[(window.inputs, window.targets) for window in request] for request in windows] + [golds, start]
        ),
    )


def item_windows(
    loaded: LoadedTask, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig
) -> list[tuple[Continuation, ...]]:
    """The token sequences by which the requests of each item are answered, in the order of its requests."""
    requests = [document.requests() for document in loaded.documents]
    windows = iter(_windows(requests, tokenizer, resolve_max_length(config, tokenizer, default=DEFAULT_LENGTH)))
    return [tuple(window for _ in item for window in next(windows)) for item in requests]


def _windows(
    requests: Sequence[Sequence[Instance]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[tuple[Continuation, ...]]:
    return tokenize_requests([request for item in requests for request in item], tokenizer, max_length)
