"""Random trees of sequences, and attention over them straight from its definition."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor

from shared.supernet.packing import Packed
from shared.supernet.prefix import Prefix
from shared.supernet.tree import Tree

HEADS, HEAD_DIM = 4, 8

SEQUENCES = st.lists(st.lists(st.integers(0, 2), max_size=7), max_size=6)
"""Sequences of so few words that many begin alike; some are equal, empty, or the beginning of another."""


@st.composite
def trees(draw: st.DrawFn, start: int = 0) -> Tree:
    """A tree or a forest of a few sequences, perhaps after a trunk; at least one token."""
    trunk = [7] * draw(st.integers(0, 9))
    sequences = [trunk + sequence for sequence in draw(SEQUENCES)]
    return Tree.merged(sequences if any(sequences) else [[1]], start)[0]


def ancestors(positions: Sequence[int], token: int) -> list[int]:
    """A token and all before it in its sequence, by depth-first order alone: each one's parent is the nearest token to
    the left that is a position before it."""
    path = [token]
    for place in reversed(range(token)):
        if positions[place] == positions[path[-1]] - 1:
            path.append(place)
    return path[::-1]


Projected = tuple[Tensor, Tensor, Tensor]


def projections(tokens: int, kv_heads: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Projected:
    """Random queries, keys and values."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (HEADS, kv_heads, kv_heads)
    queries, keys, values = (torch.randn(tokens, heads, HEAD_DIM, generator=generator).to(dtype) for heads in sizes)
    return 2 * queries, keys, values


def attention_by_definition(
    tree: Tree, own: Projected, before: Projected | None = None, window: int | None = None
) -> Tensor:
    """Attention of one tree, after what stands before it: token by token, head by head, in float64."""
    queries, keys, values = (tensor.double() for tensor in own)
    shared = 0
    if before is not None:
        shared = len(before[0])
        keys, values = torch.cat((before[1].double(), keys)), torch.cat((before[2].double(), values))
    positions = [*range(shared), *tree.positions]
    share = queries.shape[1] // keys.shape[1]
    outputs = []
    for token, position in enumerate(tree.positions):
        path = [*range(shared), *(shared + place for place in ancestors(tree.positions, token))]
        assert [positions[place] for place in path] == list(range(position + 1)), "the tree starts somewhere else"
        seen = [place for place in path if window is None or position - positions[place] < window]
        for head in range(queries.shape[1]):
            scores = keys[seen, head // share] @ queries[token, head] / HEAD_DIM**0.5
            outputs.append(F.softmax(scores, dim=0) @ values[seen, head // share])
    return torch.stack(outputs).view(len(tree), -1)


def read_prefix(before: Projected, window: int | None = None) -> Prefix:
    """A prefix that has been read in layer 0."""
    prefix = Prefix.of([0] * len(before[0]))
    prefix.attend(0, *before, window)
    return prefix


def places(packed: Packed, given: Sequence[Tree]) -> list[slice]:
    """Where in a row the given trees stand."""
    return [slice(start, start + len(tree)) for start, tree in zip(packed.starts, given, strict=True)]
