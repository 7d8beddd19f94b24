"""Sequences in one row: each is attended to as if it were alone."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shared.supernet.packing import GROUP_RATIO, Packed, Tree, pack

HEADS, KV_HEADS, HEAD_DIM = 4, 2, 8


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """A trunk, perhaps empty, and up to four branches of any length, perhaps none."""
    trunk = draw(st.integers(0, 12))
    branches = draw(st.lists(st.integers(0, 9), max_size=4))
    if trunk == 0 and not any(branches):
        trunk = 1
    positions, numbers = list(range(trunk)), [0] * trunk
    for number, length in enumerate(branches, start=1):
        positions += range(trunk, trunk + length)
        numbers += [number] * length
    return Tree([draw(st.integers(0, 99)) for _ in positions], positions, numbers)


def projections(tokens: int, kv_heads: int = KV_HEADS, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = (HEADS, kv_heads, kv_heads)
    queries, keys, values = (torch.randn(tokens, heads, HEAD_DIM, generator=generator) for heads in sizes)
    return 2 * queries, keys, values


def attend_alone(tree: Tree, queries: Tensor, keys: Tensor, values: Tensor, window: int | None) -> Tensor:
    """Attention of one sequence, straight from its definition: token by token, head by head."""
    outputs = torch.empty(len(tree), queries.shape[1], HEAD_DIM, dtype=torch.double)
    share = queries.shape[1] // keys.shape[1]
    for own, (position, branch) in enumerate(zip(tree.positions, tree.branches, strict=True)):
        seen = [
            other
            for other in range(len(tree))
            if tree.branches[other] in (0, branch)
            and tree.positions[other] <= position
            and (window is None or position - tree.positions[other] < window)
        ]
        for head in range(queries.shape[1]):
            scores = keys[seen, head // share].double() @ queries[own, head].double() / HEAD_DIM**0.5
            outputs[own, head] = F.softmax(scores, dim=0) @ values[seen, head // share].double()
    return outputs.flatten(1).float()


def places(packed: Packed, trees_: list[Tree]) -> list[slice]:
    return [slice(start, start + len(tree)) for start, tree in zip(packed.starts, trees_, strict=True)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(trees(), min_size=1, max_size=5), st.none() | st.integers(1, 8), st.sampled_from([1, 2, 4]), st.booleans()
)
def test_packed_attention_is_attention_one_at_a_time(
    sequences: list[Tree], window: int | None, kv_heads: int, trained: bool
) -> None:
    packed = pack(sequences)
    queries, keys, values = projections(len(packed.tokens), kv_heads)
    attended = packed.attend(queries.clone().requires_grad_(trained), keys, values, window).detach()
    for tree, place in zip(sequences, places(packed, sequences), strict=True):
        alone = attend_alone(tree, queries[place], keys[place], values[place], window)
        torch.testing.assert_close(attended[place], alone, atol=2e-6, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.lists(trees(), min_size=1, max_size=6))
def test_every_token_stands_once_where_its_sequence_starts(sequences: list[Tree]) -> None:
    packed = pack(sequences)
    covered = [index for place in places(packed, sequences) for index in range(place.start, place.stop)]
    assert sorted(covered) == list(range(len(packed.tokens)))
    for tree, place in zip(sequences, places(packed, sequences), strict=True):
        assert packed.tokens[place].tolist() == list(tree.tokens)
        assert packed.positions[place].tolist() == list(tree.positions)


@pytest.mark.parametrize("window", [None, 3])
def test_sequences_do_not_influence_one_another(window: int | None) -> None:
    sequences = [Tree.plain(range(length)) for length in (9, 4, 8, 9)]
    packed = pack(sequences)
    queries, keys, values = projections(len(packed.tokens))
    before = packed.attend(queries, keys, values, window)
    changed = places(packed, sequences)[2]
    queries[changed], keys[changed], values[changed] = 7.0, -3.0, 5.0
    after = packed.attend(queries, keys, values, window)
    for index, place in enumerate(places(packed, sequences)):
        assert torch.equal(before[place], after[place]) == (index != 2)


def test_branches_see_the_trunk_but_not_one_another() -> None:
    tree = Tree(range(7), (0, 1, 2, 3, 4, 3, 4), (0, 0, 0, 1, 1, 2, 2))
    packed = pack([tree])
    queries, keys, values = projections(7)
    before = packed.attend(queries, keys, values, None)
    values[3:5] += 1
    after = packed.attend(queries, keys, values, None)
    assert torch.equal(before[:3], after[:3]) and torch.equal(before[5:], after[5:])
    assert not torch.isclose(before[3:5], after[3:5]).any()
    values[1] += 1
    assert not torch.isclose(packed.attend(queries, keys, values, None)[1:], after[1:]).any()


def test_a_branch_is_the_same_as_its_sequence_written_out() -> None:
    tree = Tree((5, 6, 7, 8, 9, 10), (0, 1, 2, 3, 2, 3), (0, 0, 1, 1, 2, 2))
    queries, keys, values = projections(6)
    attended = pack([tree]).attend(queries, keys, values, None)
    second = [0, 1, 4, 5]
    plain = pack([Tree.plain((5, 6, 9, 10))])
    written_out = plain.attend(queries[second], keys[second], values[second], None)
    torch.testing.assert_close(attended[second], written_out, atol=1e-6, rtol=1e-6)


def test_sequences_of_similar_length_share_a_call_and_others_do_not() -> None:
    shortest_together = int(100 * GROUP_RATIO)
    assert len(pack([Tree.plain(range(length)) for length in (100, shortest_together)]).groups) == 1
    assert len(pack([Tree.plain(range(length)) for length in (100, shortest_together - 1)]).groups) == 2


def test_gradients_reach_every_token_and_none_is_undefined() -> None:
    packed = pack([Tree.plain(range(6)), Tree((1, 2, 3, 4), (0, 1, 1, 1), (0, 1, 2, 3)), Tree.plain((1,))])
    inputs = [tensor.requires_grad_() for tensor in projections(len(packed.tokens))]
    packed.attend(inputs[0], inputs[1], inputs[2], 2).square().sum().backward()
    for tensor in inputs:
        assert tensor.grad is not None and bool(tensor.grad.isfinite().all())
    values = inputs[2].grad
    assert values is not None and bool((values.flatten(1).abs().sum(1) > 0).all())
