"""The attention of a GPU, run on the CPU as plain operations, is the packed attention of the CPU."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shared.supernet import flexible
from shared.supernet.flexible import block_mask, flexible_attention
from shared.supernet.packing import pack
from shared.supernet.tree import Tree
from tests.support.trees import Projected, ancestors, attention_by_definition, places, projections, read_prefix, trees

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


def flexibly(sequences: list[Tree], own: Projected, before: Projected | None, window: int | None) -> Tensor:
    prefix = None if before is None else read_prefix(before, window).keys_values(0)
    return pack(sequences)._flexibly(*own, window, prefix)


@settings(max_examples=10, deadline=None)
@given(st.data(), st.none() | st.integers(1, 9), st.sampled_from([1, 2, 4]), st.just(0) | st.integers(1, 7))
def test_a_gpus_attention_is_the_cpus(data: st.DataObject, window: int | None, kv_heads: int, shared: int) -> None:
    sequences = data.draw(st.lists(trees(start=shared), min_size=1, max_size=4))
    packed = pack(sequences)
    own = projections(len(packed.tokens), kv_heads)
    before = projections(shared, kv_heads, seed=1) if shared else None
    prefix = None if before is None else read_prefix(before, window)
    expected = packed.after(prefix).attend(0, *own, window)
    found = flexibly(sequences, own, before, window)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("window", [None, 40, 150])
@pytest.mark.parametrize("shared", [0, 130])
def test_rows_of_several_blocks_are_attended_to_as_defined(shared: int, window: int | None) -> None:
    sequences = [
        Tree.merged([range(90), [*range(60), *range(200, 260)], [*range(60), 7]], shared)[0],
        Tree.merged([range(100)], shared)[0],
    ]
    packed = pack(sequences)
    own = projections(len(packed.tokens), 2)
    before = projections(shared, 2, seed=1) if shared else None
    found = flexibly(sequences, own, before, window)
    for tree, place in zip(sequences, places(packed, sequences), strict=True):
        queries, keys, values = (tensor[place] for tensor in own)
        expected = attention_by_definition(tree, (queries, keys, values), before, window).float()
        torch.testing.assert_close(found[place], expected, atol=5e-6, rtol=1e-5)


def test_who_sees_whom_is_a_matter_of_the_row_the_prefix_and_the_window() -> None:
    tree = Tree.merged([[1, 2, 3], [1, 4]], 2)[0]
    packed = pack([tree])
    ones = torch.ones(4, 1, 1), torch.ones(6, 1, 1)
    for window in (None, 1, 3):
        mask = block_mask(packed.positions, packed.ends, 2, window)
        for key in range(6):
            values = torch.zeros(6, 1, 1)
            values[key] = 1
            sees = flexible_attention(*ones, values, mask).squeeze(1) > 0
            for query, position in enumerate(tree.positions):
                path = [0, 1, *(2 + place for place in ancestors(tree.positions, query))]
                assert bool(sees[query]) == (key in (path if window is None else path[-window:])), (position, key)


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")
def test_a_process_may_compile_a_kernel_for_each_kind_of_network() -> None:
    with torch._dynamo.config.patch(recompile_limit=8):
        flexible._compiled.__wrapped__()
        assert torch._dynamo.config.recompile_limit == flexible.KERNELS


@pytest.mark.parametrize("size", [4, 12, 16, 20])
def test_heads_too_small_for_the_kernel_are_filled_up(size: int) -> None:
    packed, given = pack([Tree.plain(range(5))]), torch.randn(3, 5, 2, size)
    found = flexible_attention(*given, block_mask(packed.positions, packed.ends, 0, None))
    queries, keys, values = given.transpose(1, 2)
    expected = torch.nn.functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    torch.testing.assert_close(found, expected.transpose(0, 1).flatten(1))
