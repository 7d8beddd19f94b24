"""Many sequences in one row of tokens: no padding in the linear layers, no attention from one sequence to another."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

GROUP_RATIO = 0.75
"""Sequences share an attention call as long as the shortest has this share of the longest one's length: fewer calls, at
the price of at most 1 - GROUP_RATIO² of the attention's work on padding."""


@dataclass(frozen=True)
class Tree:
    """A sequence with a trunk and branches, such as a question and its possible answers.

    `tokens`, `positions` and `branches` have one entry a token: its id, its position in its own sequence, and 0 for
    the trunk or the number of its branch. A token sees the trunk and its own branch, up to its own position. A
    sequence without branches is all trunk.
    """

    tokens: Sequence[int]
    positions: Sequence[int]
    branches: Sequence[int]

    @classmethod
    def plain(cls, tokens: Sequence[int]) -> "Tree":
        """A sequence without branches."""
        return cls(tokens, range(len(tokens)), (0,) * len(tokens))

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass
class _Group:
    """Sequences of similar length that attend in one call, padded on the right to the longest."""

    gather: Tensor  # (sequences, longest): where each token stands in the row; padding repeats the sequence's first
    real: Tensor  # (tokens of the group): which places of the flattened `gather` are no padding
    positions: Tensor  # (sequences, longest)
    branches: Tensor | None  # (sequences, longest); None where no sequence branches
    masks: dict[int | None, Tensor | None] = field(default_factory=dict)

    def mask(self, window: int | None) -> Tensor | None:
        """What may be seen, (sequences, 1, longest, longest); None where that is all earlier tokens."""
        if window not in self.masks:
            self.masks[window] = self._mask(window)
        return self.masks[window]

    def _mask(self, window: int | None) -> Tensor | None:
        longest = self.gather.shape[1]
        if self.branches is None and (window is None or window >= longest):
            return None
        order = torch.arange(longest, device=self.gather.device)
        visible = (order[:, None] >= order[None, :]).expand(len(self.gather), -1, -1)
        if self.branches is not None:
            key_branch = self.branches[:, None, :]
            visible = visible & ((key_branch == 0) | (key_branch == self.branches[:, :, None]))
        if window is not None:
            visible = visible & (self.positions[:, :, None] - self.positions[:, None, :] < window)
        # A row that sees nothing would be a division by zero; padding sees itself, and nobody looks at what it says.
        return (visible | (order[:, None] == order[None, :])).unsqueeze(1)


@dataclass
class Packed:
    """A row of tokens and who sees whom in it.

    `tokens` and `positions` have shape (T,); `starts[i]` is the place in the row of the i-th given sequence's first
    token.
    """

    tokens: Tensor
    positions: Tensor
    starts: list[int]
    groups: list[_Group]

    def forget_masks(self) -> None:
        """Free the masks once all layers have used them: they are large, and quickly made again."""
        for group in self.groups:
            group.masks.clear()

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, window: int | None) -> Tensor:
        """Attention within each sequence, whichever layer of the network it is.

        `queries` (T, heads, head_dim), `keys` and `values` (T, kv_heads, head_dim); returns (T, heads * head_dim).
        `window`: how many tokens back a token sees, itself included; None for all.
        """
        outputs = []
        for group in self.groups:
            attended = _attention(
                queries[group.gather].transpose(1, 2),
                keys[group.gather].transpose(1, 2),
                values[group.gather].transpose(1, 2),
                group.mask(window),
            )
            outputs.append(attended.transpose(1, 2).flatten(2).flatten(0, 1)[group.real])
        return torch.cat(outputs)


def _attention(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of (sequences, heads, longest, head_dim) over (sequences, kv_heads, longest, head_dim)."""
    if not (queries.requires_grad and queries.device.type == "cpu"):
        grouped = queries.shape[1] != keys.shape[1]
        return F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=mask is None, enable_gqa=grouped
        )
    # Fused attention is slow backwards on a CPU: at a few hundred tokens, plain products take a third of its time.
    repeats = queries.shape[1] // keys.shape[1]
    keys, values = keys.repeat_interleave(repeats, 1), values.repeat_interleave(repeats, 1)
    if mask is None:
        mask = torch.ones(queries.shape[2], keys.shape[2], dtype=torch.bool).tril()
    scores = (queries @ keys.transpose(2, 3) * queries.shape[3] ** -0.5).masked_fill(~mask, float("-inf"))
    return F.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype) @ values


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
        groups.append(_group([trees[index] for index in together], [starts[index] for index in together], device))
        row.extend(together)
    tokens = [token for index in row for token in trees[index].tokens]
    positions = [position for index in row for position in trees[index].positions]
    return Packed(
        tokens=torch.tensor(tokens, dtype=torch.long, device=device),
        positions=torch.tensor(positions, dtype=torch.long, device=device),
        starts=starts,
        groups=groups,
    )


def _group(trees: list[Tree], starts: list[int], device: torch.device | str) -> _Group:
    longest = len(trees[0])
    gather = torch.tensor(starts).unsqueeze(1).expand(-1, longest).clone()
    positions = torch.zeros(len(trees), longest, dtype=torch.long)
    branches = torch.zeros(len(trees), longest, dtype=torch.long)
    real = torch.zeros(len(trees), longest, dtype=torch.bool)
    for line, tree in enumerate(trees):
        length = len(tree)
        gather[line, :length] += torch.arange(length)
        positions[line, :length] = torch.tensor(list(tree.positions))
        branches[line, :length] = torch.tensor(list(tree.branches))
        real[line, :length] = True
    return _Group(
        gather=gather.to(device),
        real=real.flatten().nonzero().squeeze(1).to(device),
        positions=positions.to(device),
        branches=branches.to(device) if bool(branches.any()) else None,
    )
