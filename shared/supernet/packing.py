"""Many sequences in one row of tokens: no padding in the linear layers, no attention from one sequence to another."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.supernet.attention import (
    LANES,
    KeysValues,
    attention,
    batch_invariant_attention,
    filled_up,
    fused_attention,
)
from shared.supernet.flexible import BlockMask, block_mask, flexible_attention
from shared.supernet.segments import Segments
from shared.supernet.tree import Tree

GROUP_RATIO = 0.75
"""Sequences share an attention call as long as the shortest has this share of the longest one's length: fewer calls, at
the price of at most 1 - GROUP_RATIO² of the attention's work on padding."""
LONG = 512
"""Single sequences of so many tokens are left to the fused kernel."""


class CachedPrefix(Protocol):
    """The prefix that all sequences of a row have in common, which went through the network before them."""

    def keys_values(self, layer: int) -> KeysValues:
        """Its keys and values in a layer."""
        ...


@dataclass(frozen=True)
class _Group:
    """Sequences of similar length that attend in one call, padded on the right to the longest."""

    tokens: slice  # of the row
    gather: Tensor  # (sequences, longest): where each token stands in the row; padding repeats the sequence's first
    real: Tensor | None  # (tokens of the group): which of the gathered tokens are no padding; None: all
    positions: Tensor  # (sequences, longest)
    ends: Tensor  # (sequences, longest): as in the tree
    plain: bool  # whether no sequence branches

    def keys(self, count: int) -> Tensor:
        """Where `count` keys of each sequence stand in the row, (sequences, count): at first those of its tokens."""
        return torch.cat((self.gather, self.gather[:, :1].expand(-1, count - self.gather.shape[1])), dim=1)

    def mask(self, window: int | None, before: int, keys: int, dtype: torch.dtype) -> Tensor:
        """The attention mask, added to the scores: 0 for what may be seen and -inf for what may not, (sequences,
        longest, keys); the first `before` keys are those of a prefix, the last ones may be of no token."""
        longest = self.positions.shape[1]
        order = torch.arange(longest, device=self.ends.device)
        visible = (order[:, None] >= order) & (order[:, None] < self.ends[:, None, :])
        # A query that sees nothing would be a division by zero; padding sees itself, and its output is not used.
        visible |= order[:, None] == order
        positions = self.positions
        if before:
            visible = torch.cat((visible.new_ones(len(positions), longest, before), visible), dim=2)
            prefix = torch.arange(before, device=positions.device).expand(len(positions), -1)
            positions = torch.cat((prefix, positions), dim=1)
        if window is not None:
            visible &= self.positions[:, :, None] - positions[:, None, :] < window
        visible = F.pad(visible, (0, keys - before - longest))
        return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, float("-inf"))


@dataclass(frozen=True)
class Packed:
    """A row of tokens and its attention mask, for one pass through a network.

    `tokens` and `positions` have shape (T,), `ends` (T,) says where in the row what follows a token ends; `last` is the
    highest position, `starts[i]` the place in the row of the i-th given sequence's first token; each sequence is a
    segment. With a `prefix`, all sequences continue it. `groups` are for a CPU: elsewhere the whole row attends in one
    call, whose masks of blocks are made once for all passes of the row.
    """

    tokens: Tensor
    positions: Tensor
    ends: Tensor
    last: int
    starts: list[int]
    segments: Segments
    groups: list[_Group]
    prefix: CachedPrefix | None = None
    _masks: dict[tuple[int, int, int, int | None], Tensor] = field(default_factory=dict)
    _block_masks: dict[tuple[int, int | None], BlockMask] = field(default_factory=dict)

    def after(self, prefix: CachedPrefix | None) -> "Packed":
        """The same row for another pass, in which all sequences continue a prefix, if there is one."""
        return replace(self, prefix=prefix, _masks={})

    def attend(
        self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, window: int | None, invariant: bool = False
    ) -> Tensor:
        """Attention within each sequence; shapes as `decoder.Sequences` says."""
        prefix = None if self.prefix is None else self.prefix.keys_values(layer)
        if window is not None and window > self.last:
            window = None
        if queries.device.type != "cpu":
            return self._flexibly(queries, keys, values, window, prefix)
        # Queries of one key/value head stand side by side.
        folded = queries.reshape(len(queries), keys.shape[1], -1)
        found = [
            self._group(number, folded, keys, values, window, prefix, invariant) for number in range(len(self.groups))
        ]
        if any(attended.requires_grad for attended in found):
            return torch.cat([attended.transpose(0, 1) for attended in found]).flatten(1)
        row = torch.empty_like(folded)
        for group, attended in zip(self.groups, found, strict=True):
            row[group.tokens] = attended.transpose(0, 1)
        return row.flatten(1)

    def _group(
        self,
        number: int,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        window: int | None,
        prefix: KeysValues | None,
        invariant: bool,
    ) -> Tensor:
        """Attention of a group, (kv_heads, tokens of the group, head_dim * heads of each), of tensors of the whole row:
        `queries` (T, kv_heads, head_dim * heads of each), `keys` and `values` (T, kv_heads, head_dim)."""
        group, shared = self.groups[number], 0 if prefix is None else prefix.keys.shape[2]
        sequences, longest = group.gather.shape
        trained = queries.requires_grad or keys.requires_grad or values.requires_grad
        fused = group.plain and prefix is None and window is None and longest >= LONG and not invariant
        gather = group.keys(longest if trained or fused else filled_up(longest, shared))
        queries = _by_head(queries, group.gather).view(keys.shape[1], sequences, longest, -1, keys.shape[2])
        keys, values = _by_head(keys, gather), _by_head(values, gather)
        if fused:
            attended = fused_attention(queries, keys, values)
        else:
            before = 0
            # A prefix of which not all is seen joins the sequences' own keys; so does one too short for batch
            # invariance.
            if prefix is not None and (window is not None or (invariant and shared < LANES)):
                before = shared
                keys = torch.cat((prefix.keys.transpose(1, 2)[:, None].expand(-1, sequences, -1, -1), keys), dim=2)
                values = torch.cat((prefix.values[:, None].expand(-1, sequences, -1, -1), values), dim=2)
                prefix = None
            key = (number, before, keys.shape[2], window)
            if key not in self._masks:
                self._masks[key] = group.mask(window, before, keys.shape[2], queries.dtype)
            attend = batch_invariant_attention if invariant else attention
            attended = attend(queries, keys, values, self._masks[key], prefix)
        found = attended.flatten(1, 2).flatten(2)
        return found if group.real is None else found.index_select(1, group.real)

    def _flexibly(
        self, queries: Tensor, keys: Tensor, values: Tensor, window: int | None, prefix: KeysValues | None
    ) -> Tensor:
        """Attention of the whole row in one call, for a GPU."""
        if prefix is not None:
            keys = torch.cat((prefix.keys.permute(2, 0, 1), keys))
            values = torch.cat((prefix.values.transpose(0, 1), values))
        key = (len(keys) - len(queries), window)
        if key not in self._block_masks:
            self._block_masks[key] = block_mask(self.positions, self.ends, *key)
        return flexible_attention(queries, keys, values, self._block_masks[key])


def pack(sequences: Iterable[Tree], device: torch.device | str = "cpu") -> Packed:
    """Lay sequences into one row, those of similar length side by side."""
    trees = list(sequences)
    by_length = sorted(range(len(trees)), key=lambda index: -len(trees[index]))
    groups: list[_Group] = []
    starts = [0] * len(trees)
    row: list[int] = []
    place = 0
    while by_length:
        longest = len(trees[by_length[0]])
        together = [index for index in by_length if len(trees[index]) >= GROUP_RATIO * longest]
        by_length = by_length[len(together) :]
        for index in together:
            starts[index] = place
            place += len(trees[index])
        if torch.device(device).type == "cpu":
            groups.append(_group([trees[index] for index in together], [starts[index] for index in together], place))
        row.extend(together)
    tokens = [token for index in row for token in trees[index].tokens]
    positions = [position for index in row for position in trees[index].positions]
    ends = [starts[index] + end for index in row for end in trees[index].ends]
    owners = [number for number, index in enumerate(row) for _ in trees[index].tokens]
    # One copy to the device, not four.
    row_tokens, row_positions, row_ends, row_owners = torch.tensor(
        [tokens, positions, ends, owners], dtype=torch.long, device=device
    )
    return Packed(
        tokens=row_tokens,
        positions=row_positions,
        ends=row_ends,
        last=max(positions, default=0),
        starts=starts,
        segments=Segments(row_owners, len(row)),
        groups=groups,
    )


def _by_head(tensor: Tensor, gather: Tensor) -> Tensor:
    """Numbers (T, heads, N) of tokens where they stand, `gather` (sequences, tokens), as (heads, sequences, tokens,
    N)."""
    if tensor.requires_grad:
        found = tensor.index_select(0, gather.flatten()).transpose(0, 1)
    else:
        found = tensor.new_empty(tensor.shape[1], gather.numel(), tensor.shape[2])
        for head, into in enumerate(found):
            torch.index_select(tensor[:, head], 0, gather.flatten(), out=into)
    return found.view(len(found), *gather.shape, -1)


def _group(trees: list[Tree], starts: list[int], end: int) -> _Group:
    """Trees that stand one after another in a row, up to its `end`."""
    longest = len(trees[0])
    gather = torch.tensor(starts).unsqueeze(1).expand(-1, longest).clone()
    positions = torch.zeros(len(trees), longest, dtype=torch.long)
    ends = torch.zeros(len(trees), longest, dtype=torch.long)
    real = torch.zeros(len(trees), longest, dtype=torch.bool)
    for line, tree in enumerate(trees):
        length = len(tree)
        gather[line, :length] += torch.arange(length)
        positions[line, :length] = torch.tensor(list(tree.positions))
        ends[line, :length] = torch.tensor(list(tree.ends))
        real[line, :length] = True
    return _Group(
        tokens=slice(starts[0], end),
        gather=gather,
        real=None if bool(real.all()) else real.flatten().nonzero().squeeze(1),
        positions=positions,
        ends=ends,
        plain=not any(tree.branches for tree in trees),
    )
