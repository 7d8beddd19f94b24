"""Attention in parts that fit into the cache, over a shared prefix and a group's own keys."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from shared.supernet import attention as module
from shared.supernet.attention import KeysValues, attention, fused_attention

HEADS, HEAD_DIM = 4, 8


def noise(*size: int, seed: int) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def group(sequences: int, length: int, kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    queries = noise(kv_heads, sequences, length, HEADS // kv_heads, HEAD_DIM, seed=0)
    keys, values = (noise(kv_heads, sequences, length, HEAD_DIM, seed=seed) for seed in (1, 2))
    return queries, keys, values


def shared_prefix(length: int, kv_heads: int) -> KeysValues:
    return KeysValues(noise(kv_heads, HEAD_DIM, length, seed=3), noise(kv_heads, length, HEAD_DIM, seed=4))


def random_bias(sequences: int, length: int) -> Tensor:
    """Every query sees itself and half of the other keys, in no order; what it sees is weighed, too."""
    mask = noise(sequences, length, length, seed=5)
    mask[(noise(sequences, length, length, seed=6) > 0) & ~torch.eye(length, dtype=torch.bool)] = float("-inf")
    return mask


def by_torch(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, prefix: KeysValues | None) -> Tensor:
    """The same by torch's kernel in float64, the prefix written out before each sequence's keys, heads repeated."""
    if prefix is not None:
        before, its_values = (part[:, None].expand(-1, len(mask), -1, -1) for part in (prefix.keys.mT, prefix.values))
        keys, values = torch.cat((before, keys), dim=2), torch.cat((its_values, values), dim=2)
        mask = F.pad(mask, (before.shape[2], 0))
    queries = queries.transpose(2, 3)
    keys, values = (tensor[:, :, None].expand(-1, -1, queries.shape[2], -1, -1) for tensor in (keys, values))
    seen = mask[:, None].double()
    attended = F.scaled_dot_product_attention(queries.double(), keys.double(), values.double(), attn_mask=seen)
    return attended.transpose(2, 3).float()


@pytest.mark.parametrize("before", [0, 1, 6])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize(("sequences", "length"), [(1, 1), (1, 9), (5, 1), (5, 7)])
def test_attention_is_torchs_own(sequences: int, length: int, kv_heads: int, before: int) -> None:
    inputs = group(sequences, length, kv_heads)
    prefix = shared_prefix(before, kv_heads) if before else None
    mask = random_bias(sequences, length)
    expected = by_torch(*inputs, mask, prefix)
    torch.testing.assert_close(attention(*inputs, mask, prefix), expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("before", [0, 6])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_the_parts_make_up_the_whole(monkeypatch: pytest.MonkeyPatch, kv_heads: int, before: int) -> None:
    inputs, mask = group(5, 7, kv_heads), random_bias(5, 7)
    prefix = shared_prefix(before, kv_heads) if before else None
    whole = attention(*inputs, mask, prefix)
    for queries_at_a_time in (1, 2, 3, 6, 7, 8, 14, 20, 34, 35):
        monkeypatch.setattr(module, "CACHED_SCORES", queries_at_a_time * HEADS * (7 + before))
        parts = attention(*inputs, mask, prefix)
        torch.testing.assert_close(parts, whole, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("before", [0, 5])
def test_no_more_scores_are_held_than_fit_into_the_cache(monkeypatch: pytest.MonkeyPatch, before: int) -> None:
    held: list[int] = []
    softmax = F.softmax

    def noted(scores: Tensor, dim: int) -> Tensor:
        held.append(scores.numel())
        return softmax(scores, dim=dim)

    monkeypatch.setattr(module.F, "softmax", noted)
    prefix = shared_prefix(before, 2) if before else None
    a_query = HEADS * (7 + before)
    for cached in (0, a_query, 3 * a_query, 10 * a_query, 30 * a_query, 100 * a_query):
        monkeypatch.setattr(module, "CACHED_SCORES", cached)
        held.clear()
        attention(*group(5, 7, 2), random_bias(5, 7), prefix)
        assert sum(held) == 35 * a_query
        assert max(held) <= max(cached, a_query)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_the_fused_kernel_is_causal_attention(kv_heads: int) -> None:
    inputs = group(3, 11, kv_heads)
    causal = torch.full((11, 11), float("-inf")).triu(1).expand(3, -1, -1)
    expected = by_torch(*inputs, causal, None)
    torch.testing.assert_close(fused_attention(*inputs), expected, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(attention(*inputs, causal, None), expected, atol=2e-6, rtol=1e-5)


def test_scores_beyond_what_can_be_exponentiated_are_weighed_all_the_same() -> None:
    queries, keys, values = group(2, 6, 2)
    prefix = shared_prefix(4, 2)
    prefix = KeysValues(prefix.keys * 300, prefix.values)
    mask = random_bias(2, 6)
    found = attention(queries * 10, keys * 300, values, mask, prefix)
    expected = by_torch(queries * 10, keys * 300, values, mask, prefix)
    assert found.isfinite().all()
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("before", [0, 5])
def test_attention_in_bfloat16_is_right_but_for_rounding(before: int) -> None:
    inputs = [tensor.bfloat16() for tensor in group(3, 9, 2)]
    prefix = KeysValues(*(tensor.bfloat16() for tensor in shared_prefix(before, 2))) if before else None
    mask = random_bias(3, 9).bfloat16()
    found = attention(inputs[0], inputs[1], inputs[2], mask, prefix)
    assert found.dtype == torch.bfloat16
    expected = by_torch(inputs[0], inputs[1], inputs[2], mask, prefix)
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0.03)
