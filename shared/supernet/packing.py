"""Many sequences in one row of tokens: no padding in the linear layers, no attention from one sequence to another."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from shared.supernet.attention import LANES, KeysValues, attention, batch_invariant_attention, fused_attention
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

    gather: Tensor  # (sequences * longest): where each token stands in the row; padding repeats the sequence's first
    sequences: int
    real: Tensor | None  # (tokens of the group): which places of `gather` are no padding; None: all
    positions: Tensor  # (sequences, longest)
    ends: Tensor  # (sequences, longest): as in the tree
    plain: bool  # whether no sequence branches

    def gathered(self, tensor: Tensor) -> Tensor:
        """The group's part of a tensor (T, heads, head_dim), as (sequences, longest, heads, head_dim)."""
        return tensor.index_select(0, self.gather).view(self.sequences, -1, *tensor.shape[1:])

    def mask(self, window: int | None, before: int, dtype: torch.dtype) -> Tensor:
        """The attention mask, added to the scores: 0 for what may be seen and -inf for what may not, (sequences,
        longest, before + longest); the first `before` keys are those of a prefix."""
        longest = self.positions.shape[1]
        order = torch.arange(longest, device=self.ends.device)
        visible = (order[:, None] >= order) & (order[:, None] < self.ends[:, None, :])
        # A query that sees nothing would be a division by zero; padding sees itself, and its output is not used.
        visible |= order[:, None] == order
        positions = self.positions
        if before:
            visible = torch.cat((visible.new_ones(self.sequences, longest, before), visible), dim=2)
            prefix = torch.arange(before, device=positions.device).expand(self.sequences, -1)
            positions = torch.cat((prefix, positions), dim=1)
        if window is not None:
            visible &= self.positions[:, :, None] - positions[:, None, :] < window
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
    _masks: dict[tuple[int, int, int | None], Tensor] = field(default_factory=dict)
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
        outputs = []
        for number, group in enumerate(self.groups):
            own = group.gathered(keys), group.gathered(values)
            flat = self._group(number, group.gathered(queries), own, window, prefix, invariant).flatten(0, 1)
            outputs.append(flat if group.real is None else flat.index_select(0, group.real))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _group(
        self,
        number: int,
        queries: Tensor,
        own: tuple[Tensor, Tensor],
        window: int | None,
        prefix: KeysValues | None,
        invariant: bool,
    ) -> Tensor:
        """Attention of a group, (sequences, longest, heads * head_dim), of tensors with two such leading dimensions."""
        group, (keys, values) = self.groups[number], own
        if group.plain and prefix is None and window is None and queries.shape[1] >= LONG and not invariant:
            return fused_attention(queries, keys, values)
        before = 0
        # A prefix of which not all is seen joins the sequences' own keys; so does one too short for batch invariance.
        if prefix is not None and (window is not None or (invariant and prefix.keys.shape[2] < LANES)):
            before = prefix.keys.shape[2]
            keys = torch.cat((prefix.keys.permute(2, 0, 1).expand(len(keys), -1, -1, -1), keys), dim=1)
            values = torch.cat((prefix.values.transpose(0, 1).expand(len(values), -1, -1, -1), values), dim=1)
            prefix = None
        key = (number, before, window)
        if key not in self._masks:
            self._masks[key] = group.mask(window, before, queries.dtype)
        attend = batch_invariant_attention if invariant else attention
        return attend(queries, keys, values, self._masks[key], prefix)

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
            groups.append(_group([trees[index] for index in together], [starts[index] for index in together]))
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


def _group(trees: list[Tree], starts: list[int]) -> _Group:
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
        gather=gather.flatten(),
        sequences=len(trees),
        real=None if bool(real.all()) else real.flatten().nonzero().squeeze(1),
        positions=positions,
        ends=ends,
        plain=not any(tree.branches for tree in trees),
    )
