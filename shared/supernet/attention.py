"""Attention of a group of short sequences, each over what all of them begin with and over its own tokens.

On a CPU plain matrix products with a softmax take half the time of torch's fused kernel, forwards and backwards, as
long as the scores fit into the cache; so they are computed for so many sequences and queries at a time that they do.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

CACHED_SCORES = 2**21
"""Scores that are computed together: 4 MB in bfloat16."""


class KeysValues(NamedTuple):
    """What a layer's attention looks at: `keys` (kv_heads, head_dim, tokens) and `values` (kv_heads, tokens,
    head_dim)."""

    keys: Tensor
    values: Tensor


def attention(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor, prefix: KeysValues | None) -> Tensor:
    """Attention of `queries` (sequences, length, heads, head_dim) over a prefix that they share, all of it, and over
    `keys` and `values` (sequences, keys, kv_heads, head_dim); returns (sequences, length, heads * head_dim).

    `bias` (sequences, length, keys), in the queries' dtype, is added to the scores of `keys`: -inf for what isn't seen.
    """
    sequences, length, heads, head_dim = queries.shape
    kv_heads, shared = keys.shape[2], 0 if prefix is None else prefix.keys.shape[2]
    # Queries of one key/value head side by side: (kv_heads, sequences, length, heads of it, head_dim).
    folded = (queries * head_dim**-0.5).view(sequences, length, kv_heads, -1, head_dim).permute(2, 0, 1, 3, 4)
    keys, values = keys.permute(2, 0, 3, 1).contiguous(), values.permute(2, 0, 1, 3).contiguous()
    outputs = [
        torch.cat([_plain(folded[:, s, q], keys[:, s], values[:, s], bias[s, q], prefix) for q in parts], dim=1)
        for s, parts in _parts(sequences, length, heads * (shared + bias.shape[2]))
    ]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def fused_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Causal attention, shapes as in `attention`, by torch's kernel: for long sequences, of which it leaves out the
    half that isn't seen."""
    queries, keys, values = (tensor.transpose(1, 2) for tensor in (queries, keys, values))
    grouped = queries.shape[1] != keys.shape[1]
    attended = F.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=grouped)
    return attended.transpose(1, 2).flatten(2)


def _plain(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor, prefix: KeysValues | None) -> Tensor:
    """Attention of queries (kv_heads, sequences, length, heads of it, head_dim) over keys (kv_heads, sequences,
    head_dim, keys) and a prefix."""
    kv_heads, sequences, length, share, head_dim = queries.shape
    flat = queries.reshape(kv_heads * sequences, length * share, head_dim)
    scores = torch.bmm(flat, keys.flatten(0, 1)).view(kv_heads, sequences, length, share, -1) + bias[:, :, None]
    own = slice(0, None)
    if prefix is not None:
        before = torch.bmm(flat.view(kv_heads, -1, head_dim), prefix.keys).view(*scores.shape[:-1], -1)
        own = slice(before.shape[-1], None)
        scores = torch.cat((before, scores), dim=-1)
    weights = F.softmax(scores, dim=-1)
    attended = torch.bmm(weights[..., own].reshape(kv_heads * sequences, length * share, -1), values.flatten(0, 1))
    if prefix is not None:
        before = weights[..., : own.start].reshape(kv_heads, -1, own.start)
        attended = attended.view(kv_heads, -1, head_dim) + torch.bmm(before, prefix.values)
    return attended.view(kv_heads, sequences, length, share, head_dim).permute(1, 2, 0, 3, 4).flatten(2)


def _parts(sequences: int, length: int, scores_of_a_query: int) -> Iterator[tuple[slice, list[slice]]]:
    """Sequences, and queries of them, that are computed together."""
    queries = max(1, CACHED_SCORES // scores_of_a_query)
    step = max(1, queries // length)
    parts = [slice(start, start + queries) for start in range(0, length, queries)]
    for start in range(0, sequences, step):
        yield slice(start, start + step), parts
