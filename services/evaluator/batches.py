"""Sequences that are scored, as batches: merged into trees, after the prefix that they share, in rows of like length.

Nothing here asks where they come from; tasks of lm-eval are `preparation`'s.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from shared.supernet.packing import Packed, pack
from shared.supernet.tree import Tree

WORTH_SHARING = 256
"""Tokens that a shared prefix must save: it costs a pass of its own through the whole network."""


@dataclass(frozen=True)
class Continuation:
    """A continuation to be scored after a context; `inputs` are the network's input tokens, `targets` what its last
    states predict.

    `inputs` ends before the last target, and is cut on the left to the network's greatest length.
    """

    inputs: tuple[int, ...]
    targets: tuple[int, ...]


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


def prefix_group(
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
    return PrefixGroup(prefix, row, members, tuple(batches_of(members, batch_tokens, device)))


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


def batches_of(members: Sequence[ScoredTree], batch_tokens: int, device: torch.device) -> Iterator[ScoringBatch]:
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
