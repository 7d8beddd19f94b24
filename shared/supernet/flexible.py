"""Attention of a whole packed row in one fused call with a mask of its blocks (FlexAttention): for a GPU."""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

__all__ = ["BlockMask", "block_mask", "flexible_attention"]


def block_mask(positions: Tensor, ends: Tensor, before: int, window: int | None) -> BlockMask:
    """A row's attention mask: `positions` and `ends` (T,) as in `Packed`; the first `before` keys are a prefix's."""

    def visible(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own = (key - before).clamp(min=0)
        seen = (key < before) | ((own <= query) & (query < ends[own]))
        if window is None:
            return seen
        return seen & (positions[query] - torch.where(key < before, key, positions[own]) < window)

    return create_block_mask(visible, None, None, len(ends), before + len(ends), device=ends.device)


def flexible_attention(queries: Tensor, keys: Tensor, values: Tensor, mask: BlockMask) -> Tensor:
    """Attention of queries (T, heads, head_dim) over keys and values (prefix + T, kv_heads, head_dim); returns
    (T, heads * head_dim)."""
    queries, keys, values = (tensor.transpose(0, 1).unsqueeze(0) for tensor in (queries, keys, values))
    kernel = _compiled() if queries.is_cuda else flex_attention
    attended: Tensor = kernel(queries, keys, values, block_mask=mask, enable_gqa=queries.shape[1] != keys.shape[1])
    return attended.squeeze(0).transpose(0, 1).flatten(1)


@cache
def _compiled() -> Any:
    # Rows differ in length: without `dynamic`, each length would be compiled anew.
    return torch.compile(flex_attention, dynamic=True)
