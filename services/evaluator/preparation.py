"""Items made ready to be scored, once for all networks: loaded, tokenised, merged into trees, packed into batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.utils import resolve_max_length
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from services.evaluator.tasks.loading import Document, LoadedTask
from services.evaluator.tokenisation import Continuation, tokenize_requests
from shared.digest import digest_json
from shared.errors import UserError
from shared.supernet.packing import Packed, pack
from shared.supernet.tokenizer import require_embedded
from shared.supernet.tree import Tree

DEFAULT_LENGTH = 2048
"""lm-eval's, for a model whose config names no greatest length."""
WORTH_SHARING = 256
"""Tokens that a shared prefix must save: it costs a pass of its own through the whole network."""


@dataclass(frozen=True)
class ScoredTree:
    """A tree, and the tokens that are scored after it: at `places` (N,) of the tree the `targets` (N,) are predicted,
    each for one of the task's requests, `owners` (N,)."""

    tree: Tree
    places: tuple[int, ...]
    targets: tuple[int, ...]
    owners: tuple[int, ...]


@dataclass(frozen=True)
class ScoredPart:
    """Some of a batch's places, and of its N targets those that are predicted there, `which` (M,): `at` which of these
    places (M,), and `targets` (M,). On the device."""

    places: slice
    which: torch.Tensor
    at: torch.Tensor
    targets: torch.Tensor


@dataclass(frozen=True)
class ScoringBatch:
    """Trees of one group that go through a network together.

    `places` (P,) are where something is predicted; `targets` (N,) what, at which of the places (`at`, (N,)) and for
    which request of the task (`owners`, (N,)). The last three are the host's, on the device are `parts` of them.
    """

    packed: Packed
    places: torch.Tensor
    at: torch.Tensor
    targets: torch.Tensor
    owners: torch.Tensor
    _parts: dict[int, tuple[ScoredPart, ...]] = field(default_factory=dict)

    def parts(self, size: int) -> tuple[ScoredPart, ...]:
        """What is predicted, `size` places at a time; made once for all networks."""
        if size not in self._parts:
            self._parts[size] = tuple(self._part(start, size) for start in range(0, len(self.places), size))
        return self._parts[size]

    def _part(self, start: int, size: int) -> ScoredPart:
        which = ((self.at >= start) & (self.at < start + size)).nonzero().squeeze(1)
        numbers = (which, self.at[which] - start, self.targets[which])
        return ScoredPart(slice(start, start + size), *(one.to(self.places.device) for one in numbers))


@dataclass(frozen=True)
class PrefixGroup:
    """Items of one subject that begin alike: the tokens of their shared prefix and these as a row, if there are any,
    what follows it as trees, and these in batches."""

    prefix: tuple[int, ...]
    prefix_row: Packed | None
    members: tuple[ScoredTree, ...]
    batches: tuple[ScoringBatch, ...]


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
    choices: tuple[int, ...]
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
            replace(group, batches=tuple(_batches(group.members, tokens, self.device))) for group in self.prefix_groups
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
    prefix_groups = tuple(_prefix_group(items, device, batch_tokens) for items in subjects.values() if items)
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


def _prefix_group(
    items: Sequence[Sequence[tuple[int, Continuation]]], device: torch.device, batch_tokens: int
) -> PrefixGroup:
    """The items of one subject; the prefix that they share is split off if that saves enough."""
    inputs = [window.inputs for item in items for _, window in item]
    common = next(
        (index for index, tokens in enumerate(zip(*inputs, strict=False)) if len(set(tokens)) > 1),
        min(len(tokens) for tokens in inputs),
    )
    # What is predicted within the prefix is not predicted by any of its members.
    common = min([common, *(len(w.inputs) - len(w.targets) for item in items for _, w in item)])
    if common * (len(items) - 1) < WORTH_SHARING:
        common = 0
    members = tuple(_merged(item, common) for item in items)
    prefix = tuple(inputs[0][:common])
    row = pack([Tree.plain(prefix)], device) if prefix else None
    return PrefixGroup(prefix, row, members, tuple(_batches(members, batch_tokens, device)))


def _merged(windows: Sequence[tuple[int, Continuation]], skipped: int) -> ScoredTree:
    """The windows as one tree, without the first tokens of each."""
    tree, paths = Tree.merged([window.inputs[skipped:] for _, window in windows], skipped)
    scored = [
        (place, target, owner)
        for (owner, window), path in zip(windows, paths, strict=True)
        for place, target in zip(path[len(path) - len(window.targets) :], window.targets, strict=True)
    ]
    places, targets, owners = zip(*scored, strict=True)
    return ScoredTree(tree, places, targets, owners)


def _batches(members: Sequence[ScoredTree], batch_tokens: int, device: torch.device) -> Iterator[ScoringBatch]:
    """Trees of similar length share a batch, the longest first, so that memory runs out at once or not at all."""
    batch: list[ScoredTree] = []
    filled = 0
    for member in sorted(members, key=lambda member: -len(member.tree)):
        if batch and filled + len(member.tree) > batch_tokens:
            yield _batch(batch, device)
            batch, filled = [], 0
        batch.append(member)
        filled += len(member.tree)
    if batch:
        yield _batch(batch, device)


def _batch(members: Sequence[ScoredTree], device: torch.device) -> ScoringBatch:
    packed = pack([member.tree for member in members], device)
    places: dict[int, int] = {}
    at: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    for member, start in zip(members, packed.starts, strict=True):
        at += [places.setdefault(start + place, len(places)) for place in member.places]
        targets += member.targets
        owners += member.owners
    return ScoringBatch(
        packed, torch.tensor(list(places), device=device), torch.tensor(at), torch.tensor(targets), torch.tensor(owners)
    )
