"""Attention of a whole packed row in one fused call with a mask of its blocks (FlexAttention): for a GPU."""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

__all__ = ["BlockMask", "block_mask", "flexible_attention"]

KERNELS = 64
"""That a process may compile."""
LEAST_HEAD_DIM = 16
"""Triton multiplies no smaller matrices: smaller heads are filled up with zeros."""


def block_mask(positions: Tensor, ends: Tensor, before: int, window: int | None) -> BlockMask:
    """A row's attention mask: `positions` and `ends` (T,) as in `Packed`; the first `before` keys are a prefix's."""
    # What the mask asks for is in tensors alone: the kernel would be compiled anew for each number that it holds.
    prefix = torch.arange(before, device=ends.device)
    first_seeing = torch.arange(-before, len(ends), device=ends.device)  # by key: which query sees it first
    seeing_ends = torch.cat((torch.full_like(prefix, len(ends)), ends))
    out_of_window = torch.cat((prefix, positions)) + (0 if window is None else window)

    def visible(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (first_seeing[key] <= query) & (query < seeing_ends[key])

    def visible_in_window(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return visible(batch, head, query, key) & (positions[query] < out_of_window[key])

    seen = visible if window is None else visible_in_window
    return create_block_mask(seen, None, None, len(ends), before + len(ends), device=str(ends.device))


def flexible_attention(queries: Tensor, keys: Tensor, values: Tensor, mask: BlockMask) -> Tensor:
    """Attention of queries (T, heads, head_dim) over keys and values (prefix + T, kv_heads, head_dim); returns
    (T, heads * head_dim)."""
    head_dim = queries.shape[2]
    missing = max(0, LEAST_HEAD_DIM - head_dim)
    if missing:
        queries, keys, values = (F.pad(tensor, (0, missing)) for tensor in (queries, keys, values))
    queries, keys, values = (tensor.transpose(0, 1).unsqueeze(0) for tensor in (queries, keys, values))
    kernel = flex_attention if queries.device.type == "cpu" else _compiled()
    grouped = queries.shape[1] != keys.shape[1]
    attended: Tensor = kernel(queries, keys, values, block_mask=mask, enable_gqa=grouped, scale=head_dim**-0.5)
    return attended.squeeze(0).transpose(0, 1)[..., :head_dim].flatten(1)


@cache
def _compiled() -> Any:
    # Beyond its limit torch computes without a kernel, with all scores of a row in memory; and each shape of heads,
    # each dtype and each kind of mask has a kernel of its own.
    torch._dynamo.config.recompile_limit = max(KERNELS, torch._dynamo.config.recompile_limit)
    # Rows differ in length: without `dynamic`, each length would be compiled anew.
    return torch.compile(flex_attention, dynamic=True)
