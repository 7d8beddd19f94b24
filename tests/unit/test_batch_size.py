"""How many tokens a batch has: on a CPU always as many, on a GPU as its memory allows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.evaluator.batch_size import (
    LEAST_TOKENS,
    MOST_TOKENS,
    batch_tokens,
    fixed_bytes,
    scoring_bytes,
    token_bytes,
)
from shared.network.sizes import weight_bytes
from tests.support.networks import uniform_network

GPU = torch.device("cuda")
SEVEN = uniform_network(32, 11008, hidden=4096, heads=32, kv_heads=32, vocab_size=32000, tied_embeddings=False)
GIB = 2**30


def tokens_with(free: int, cached: int = 0) -> int:
    """Tokens of a batch of the 7B network, with some memory free and some that torch holds without using it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 80 * GIB))
        patch.setattr(torch.cuda, "memory_reserved", lambda _: cached + GIB)
        patch.setattr(torch.cuda, "memory_allocated", lambda _: GIB)
        return batch_tokens(SEVEN, "bfloat16", GPU)


@given(st.integers(0, 100 * GIB), st.integers(0, GIB))
def test_a_batch_fits_into_what_is_free_or_is_the_smallest(free: int, cached: int) -> None:
    tokens = tokens_with(free, cached)
    assert tokens & (tokens - 1) == 0 and LEAST_TOKENS <= tokens <= MOST_TOKENS["cuda"]
    taken = tokens * token_bytes(SEVEN, "bfloat16") + fixed_bytes(SEVEN, "bfloat16", "cuda")
    assert tokens == LEAST_TOKENS or taken + weight_bytes(SEVEN, "bfloat16", "int8") < free + cached


def test_more_memory_never_makes_a_batch_smaller() -> None:
    found = [tokens_with(gib * GIB) for gib in range(0, 70, 2)]
    assert found == sorted(found) and (found[0], found[-1]) == (LEAST_TOKENS, MOST_TOKENS["cuda"])
    assert len(set(found)) > 2


def test_what_torch_holds_without_using_it_counts_as_free() -> None:
    assert tokens_with(0, 30 * GIB) == tokens_with(30 * GIB) > tokens_with(0)


def test_a_cpu_has_batches_of_one_size() -> None:
    assert batch_tokens(SEVEN, "bfloat16", torch.device("cpu")) == MOST_TOKENS["cpu"] == 4096


@pytest.mark.parametrize(("device", "most"), [("cpu", 1.2), ("cuda", 1.5)])
def test_scoring_takes_the_weights_and_what_a_batch_makes(device: str, most: float) -> None:
    weights = weight_bytes(SEVEN, "bfloat16", "none")
    assert weights < scoring_bytes(SEVEN, "bfloat16", device) < most * weights


def test_a_token_takes_the_states_of_a_wave_and_what_the_widest_layer_makes() -> None:
    assert token_bytes(SEVEN, "bfloat16") == 2 * (28 * 4096 + 3 * 11008) + 8 * 4096
    narrow = uniform_network(2, 16, hidden=4096, heads=32, kv_heads=8)
    assert token_bytes(narrow, "float32") == 4 * (28 * 4096 + 4 * 4096 + 4 * 1024) + 8 * 4096
