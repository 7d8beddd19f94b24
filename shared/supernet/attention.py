"""Attention of a group of short sequences, each over what all of them begin with and over its own tokens.

On a CPU plain matrix products with a softmax take half the time of torch's fused kernel, forwards and backwards, as
long as the scores fit into the cache; so they are computed for so many sequences and queries at a time that they do.
Whoever calls fills up the keys to what `filled_up` says: torch's softmax takes numbers at the end of a row that don't
fill a register one by one, which for short rows takes three times as long as all others.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

CACHED_SCORES = 2**20
"""Scores that are computed together: 2 MB in bfloat16."""
LANES = 16
"""Numbers that torch's softmax sums side by side. Rows of a multiple of it are summed in the same order, whatever zeros
stand at their ends."""
REGISTER = 32
"""Numbers in bfloat16 that torch's softmax takes at a time."""
FEW_QUERIES = 8
"""Products of so many queries with LANES keys, in heads of 64 and more, go to oneDNN; torch has kernels of its own for
smaller ones, which round otherwise."""


class KeysValues(NamedTuple):
    """What a layer's attention looks at: `keys` (kv_heads, head_dim, tokens) and `values` (kv_heads, tokens,
    head_dim)."""

    keys: Tensor
    values: Tensor


def filled_up(keys: int, shared: int) -> int:
    """How many keys a sequence's own are filled up to, after a shared prefix of some keys: rows of scores are a
    multiple of REGISTER then, and own keys at least LANES."""
    filled = keys + -(shared + keys) % REGISTER
    return filled if filled >= LANES else filled + REGISTER


def attention(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, prefix: KeysValues | None) -> Tensor:
    """Attention of `queries` (kv_heads, sequences, length, heads of each, head_dim) over a prefix that they share, all
    of it, and over `keys` and `values` (kv_heads, sequences, keys, head_dim); returns a tensor of the queries' shape.

    `mask` (sequences, length, keys), in the queries' dtype, is added to the scores of `keys`: -inf for what isn't seen.
    Gradients flow only where there is no prefix: raises ValueError for both at once.
    """
    if queries.requires_grad or keys.requires_grad or values.requires_grad:
        if prefix is not None:
            raise ValueError("gradients don't flow through a shared prefix: write it out before each sequence")
        return _differentiable(queries, keys, values, mask)
    kv_heads, sequences, length, share, _ = queries.shape
    shared = 0 if prefix is None else prefix.keys.shape[2]
    attended = queries.new_empty(queries.shape)
    parts = list(_parts(sequences, length, share * (shared + mask.shape[2])))
    for head in range(kv_heads):
        before = None if prefix is None else KeysValues(prefix.keys[head], prefix.values[head])
        for s, q in parts:
            _attend(queries[head, s, q], keys[head, s], values[head, s], mask[s, q], before, attended[head, s, q])
    return attended


def batch_invariant_attention(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, prefix: KeysValues | None
) -> Tensor:
    """`attention`, with outcomes that are the same to the last bit however many sequences there are, and however many
    keys that a query doesn't see stand at their ends; for keys that are `filled_up`, and prefixes of at least LANES
    tokens."""
    length = queries.shape[2]
    rows = max(0, FEW_QUERIES - length)
    queries, mask = F.pad(queries, (0, 0, 0, 0, 0, rows)), F.pad(mask, (0, 0, 0, rows))
    return attention(queries, keys, values, mask, prefix)[:, :, :length]


def fused_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Causal attention, shapes as in `attention`, by torch's kernel: for long sequences, of which it leaves out the
    half that isn't seen."""
    kv_heads, sequences, length, share, head_dim = queries.shape
    heads = queries.permute(1, 0, 3, 2, 4).flatten(1, 2)
    keys, values = keys.transpose(0, 1), values.transpose(0, 1)
    attended = F.scaled_dot_product_attention(heads, keys, values, is_causal=True, enable_gqa=share != 1)
    return attended.view(sequences, kv_heads, share, length, head_dim).permute(1, 0, 3, 2, 4)


def _differentiable(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """The same without a prefix, all in one and nothing in place."""
    scores = (queries * queries.shape[-1] ** -0.5).flatten(2, 3) @ keys.transpose(2, 3).contiguous()
    scores = scores.view(*queries.shape[:4], -1) + mask[:, :, None]
    return (F.softmax(scores, dim=-1).flatten(2, 3) @ values.contiguous()).view(queries.shape)


def _attend(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, prefix: KeysValues | None, into: Tensor
) -> None:
    """Attention of one key/value head: queries (sequences, length, heads of it, head_dim) over keys and values
    (sequences, keys, head_dim) and a prefix's (head_dim, tokens), (tokens, head_dim)."""
    sequences, length, share, head_dim = queries.shape
    shared = 0 if prefix is None else prefix.keys.shape[1]
    flat = (queries * head_dim**-0.5).reshape(-1, head_dim)
    own = torch.bmm(flat.view(sequences, -1, head_dim), keys.transpose(1, 2)).view(sequences, length, share, -1)
    if prefix is None:
        scores = own.add_(mask[:, :, None])
    else:
        # The products are written side by side, and read from there again: so nothing is copied.
        scores = queries.new_empty(sequences, length, share, shared + keys.shape[1])
        torch.add(own, mask[:, :, None], out=scores[..., shared:])
        torch.mm(flat, prefix.keys, out=scores.view(len(flat), -1)[:, :shared])
    weights = F.softmax(scores, dim=-1)
    attended = torch.bmm(weights.view(sequences, length * share, -1)[..., shared:], values)
    if prefix is not None:
        before = torch.mm(weights.view(len(flat), -1)[:, :shared], prefix.values)
        attended = attended.add_(before.view(attended.shape))
    into.copy_(attended.view(queries.shape))


def _parts(sequences: int, length: int, scores_of_a_query: int) -> Iterator[tuple[slice, slice]]:
    """Sequences, and queries of them, that are computed together."""
    queries = min(length, max(1, CACHED_SCORES // scores_of_a_query))
    step = max(1, CACHED_SCORES // scores_of_a_query // length)
    for start in range(0, sequences, step):
        for first in range(0, length, queries):
            yield slice(start, start + step), slice(first, first + queries)
