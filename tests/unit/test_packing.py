"""Sequences in one row: each is attended to as if it were alone."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from shared.supernet import attention, packing
from shared.supernet.attention import LANES, REGISTER
from shared.supernet.packing import GROUP_RATIO, Packed, pack
from shared.supernet.tree import Tree
from tests.support import trees as support
from tests.support.trees import (
    Projected,
    attention_by_definition,
    places,
    projections,
    read_prefix,
    trees,
)

WINDOWS = st.none() | st.integers(1, 9)
KV_HEADS = st.sampled_from([1, 2, 4])
ROUNDING = {torch.float32: 5e-6, torch.bfloat16: 0.1}

Asked = tuple[list[Tree], int]


@st.composite
def rows(draw: st.DrawFn) -> Asked:
    """Trees for one row, and the length of the prefix that all go on after, or 0."""
    before = draw(st.just(0) | st.integers(1, 7))
    return draw(st.lists(trees(start=before), min_size=1, max_size=5)), before


def attended(packed: Packed, own: Projected, before: Projected | None, window: int | None) -> Tensor:
    prefix = None if before is None else read_prefix(before, window)
    return packed.after(prefix).attend(0, *own, window)


def by_definition(
    given_: list[Tree], packed: Packed, own: Projected, before: Projected | None, window: int | None
) -> Tensor:
    """Attention of the whole row, one tree at a time."""
    outputs = torch.empty(len(packed.tokens), own[0].shape[1] * own[0].shape[2], dtype=torch.double)
    for tree, place in zip(given_, places(packed, given_), strict=True):
        queries, keys, values = (tensor[place] for tensor in own)
        outputs[place] = attention_by_definition(tree, (queries, keys, values), before, window)
    return outputs


def assert_attends_as_defined(
    asked: Asked, window: int | None, kv_heads: int, dtype: torch.dtype = torch.float32, trained: bool = False
) -> None:
    sequences, shared = asked
    packed = pack(sequences)
    own = projections(len(packed.tokens), kv_heads, dtype=dtype)
    before = projections(shared, kv_heads, seed=1, dtype=dtype) if shared else None
    expected = by_definition(sequences, packed, own, before, window)
    for tensor in own:
        tensor.requires_grad_(trained)
    found = attended(packed, own, before, window).detach()
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, atol=ROUNDING[dtype], rtol=ROUNDING[dtype])


@settings(max_examples=80, deadline=None)
@given(rows(), WINDOWS, KV_HEADS, st.booleans())
def test_packed_attention_is_attention_one_at_a_time(
    asked: Asked, window: int | None, kv_heads: int, trained: bool
) -> None:
    # Gradients don't flow through a shared prefix.
    assert_attends_as_defined(asked, window, kv_heads, trained=trained and asked[1] == 0)


@settings(max_examples=20, deadline=None)
@given(rows(), WINDOWS, KV_HEADS)
def test_packed_attention_in_bfloat16_is_that_of_more_digits_but_for_rounding(
    asked: Asked, window: int | None, kv_heads: int
) -> None:
    assert_attends_as_defined(asked, window, kv_heads, torch.bfloat16)


@settings(max_examples=50, deadline=None)
@given(rows(), WINDOWS, KV_HEADS, st.sampled_from([1, 20, 100, 500]))
def test_attention_is_the_same_in_whatever_parts_it_is_computed(
    asked: Asked, window: int | None, kv_heads: int, cached: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "CACHED_SCORES", cached)
        assert_attends_as_defined(asked, window, kv_heads)


@settings(max_examples=50, deadline=None)
@given(rows(), st.lists(st.integers(1, 12), max_size=4), WINDOWS, KV_HEADS)
def test_long_sequences_are_attended_to_as_short_ones_are(
    asked: Asked, plain: list[int], window: int | None, kv_heads: int
) -> None:
    branching, shared = asked
    single = [Tree.merged([range(length)], shared)[0] for length in plain]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "LONG", 3)
        assert_attends_as_defined((branching + single, shared), window, kv_heads)


def test_only_long_sequences_that_see_all_before_them_and_do_not_branch_are_left_to_the_fused_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lengths: list[int] = []
    fused = packing.fused_attention

    def noted(queries: Tensor, *others: Tensor) -> Tensor:
        lengths.append(queries.shape[2])
        return fused(queries, *others)

    monkeypatch.setattr(packing, "LONG", 10)
    monkeypatch.setattr(packing, "fused_attention", noted)
    branching = Tree.merged([range(30), [*range(20), 0]])[0]
    packed = pack([Tree.plain(range(length)) for length in (17, 10, 3)] + [branching])
    own = projections(len(packed.tokens), 2)
    attended(packed, own, None, None)
    assert lengths == [17, 10]
    attended(packed, own, None, 4)
    assert lengths == [17, 10]
    after = pack([Tree.merged([range(12)], 5)[0]])
    attended(after, projections(12, 2), projections(5, 2), None)
    assert lengths == [17, 10]


@pytest.mark.parametrize(("shared", "window"), [(0, None), (0, 3), (0, 8), (6, 3), (6, 8)])
def test_gradients_are_those_of_the_definition(shared: int, window: int | None) -> None:
    sequences = [
        Tree.merged(given_, shared)[0]
        for given_ in ([range(6)], [[1, 2, 3], [1, 2, 4, 5], [6]], [[1]], [range(5), range(8)])
    ]
    packed = pack(sequences)
    own = projections(len(packed.tokens), 2, dtype=torch.double)
    before = projections(shared, 2, seed=1, dtype=torch.double) if shared else None
    inputs = [*own, *(() if before is None else before[1:])]
    for tensor in inputs:
        tensor.requires_grad_()
    weights = torch.arange(1.0, len(packed.tokens) + 1, dtype=torch.double)[:, None]
    found = torch.autograd.grad((weights * attended(packed, own, before, window)).square().sum(), inputs)
    reference = by_definition(sequences, packed, own, before, window)
    expected = torch.autograd.grad((weights * reference).square().sum(), inputs)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)
    # A window of 3 leaves the prefix's first 3 keys unseen: everything else matters to something.
    first = 0 if shared == 0 or window is None else max(0, shared - window + 1)
    for ours in (found[2], *(gradient[first:] for gradient in found[4:])):
        assert bool((ours.flatten(1).abs().sum(1) > 0).all())


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 70), min_size=1, max_size=4), st.sampled_from([0, 1, LANES - 1, LANES, 41]), WINDOWS)
def test_rows_of_scores_fill_the_registers_of_the_softmax(lengths: list[int], shared: int, window: int | None) -> None:
    rows: list[int] = []
    softmax = F.softmax

    def noted(scores: Tensor, dim: int) -> Tensor:
        rows.append(scores.shape[-1])
        return softmax(scores, dim=dim)

    packed = pack([Tree.merged([range(length)], shared)[0] for length in lengths])
    before = projections(shared, 2, seed=1) if shared else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "softmax", noted)
        attended(packed, projections(len(packed.tokens), 2), before, window)
    assert rows and all(row % REGISTER == 0 for row in rows)


def test_gradients_are_refused_where_they_would_be_lost() -> None:
    packed, own = pack([Tree.merged([range(4)], LANES)[0]]), projections(4, 2)
    own[0].requires_grad_()
    with pytest.raises(ValueError, match="gradients don't flow through a shared prefix"):
        attended(packed, own, projections(LANES, 2, seed=1), None)


@settings(max_examples=40, deadline=None)
@given(rows())
def test_every_token_stands_once_where_its_sequence_starts(asked: Asked) -> None:
    sequences, _ = asked
    packed = pack(sequences)
    covered = [index for place in places(packed, sequences) for index in range(place.start, place.stop)]
    assert sorted(covered) == list(range(len(packed.tokens)))
    assert packed.last == max(position for tree in sequences for position in tree.positions)
    for tree, place in zip(sequences, places(packed, sequences), strict=True):
        assert packed.tokens[place].tolist() == list(tree.tokens)
        assert packed.positions[place].tolist() == list(tree.positions)
        assert (packed.ends[place] - place.start).tolist() == list(tree.ends)


@pytest.mark.parametrize("shared", [0, 4])
@pytest.mark.parametrize("window", [None, 3])
def test_sequences_do_not_influence_one_another(window: int | None, shared: int) -> None:
    sequences = [Tree.merged([range(length)], shared)[0] for length in (9, 4, 8, 9)]
    packed = pack(sequences)
    own = projections(len(packed.tokens), 2)
    given_ = projections(shared, 2, seed=1) if shared else None
    before = attended(packed, own, given_, window)
    changed = places(packed, sequences)[2]
    for tensor, value in zip(own, (7.0, -3.0, 5.0), strict=True):
        tensor[changed] = value
    after = attended(packed, own, given_, window)
    for index, place in enumerate(places(packed, sequences)):
        assert torch.equal(before[place], after[place]) == (index != 2)


def test_branches_see_the_trunk_but_not_one_another() -> None:
    tree, (_, second) = Tree.merged([range(5), [0, 1, 2, 8, 9]])
    packed = pack([tree])
    queries, keys, values = projections(7, 2)
    before = packed.attend(0, queries, keys, values, None)
    values[3:5] += 1
    after = packed.attend(0, queries, keys, values, None)
    assert torch.equal(before[second], after[second])
    assert not torch.isclose(before[3:5], after[3:5]).any()
    values[1] += 1
    assert not torch.isclose(packed.attend(0, queries, keys, values, None)[1:], after[1:]).any()


def test_sequences_after_a_prefix_are_the_same_as_written_out_with_it() -> None:
    shared, ends = 5, ([7, 8, 9], [7, 8, 3, 4], [2])
    tree, paths = Tree.merged(ends, shared)
    own, before = projections(len(tree), 2), projections(shared, 2, seed=1)
    for window in (None, 4, 6):
        found = attended(pack([tree]), own, before, window)
        for path in paths:
            queries, keys, values = (torch.cat((b, o[path])) for b, o in zip(before, own, strict=True))
            alone = pack([Tree.plain(range(shared + len(path)))]).attend(0, queries, keys, values, window)
            torch.testing.assert_close(found[path], alone[shared:], atol=2e-6, rtol=2e-6)


def test_a_row_can_be_passed_again_after_another_prefix_or_none() -> None:
    tree = Tree.merged([[1, 2, 3], [1, 4]], 5)[0]
    packed, own = pack([tree]), projections(4, 2)
    passes: list[Any] = [projections(5, 2, seed=seed) for seed in (1, 2)]
    for window in (None, 3, 6):
        for before in passes:
            found = attended(packed, own, before, window)
            expected = attention_by_definition(tree, own, before, window).float()
            torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)
    assert packed.prefix is None


def test_layers_of_different_windows_can_share_a_row() -> None:
    packed, own = pack([Tree.plain(range(9)), Tree.plain(range(7))]), projections(16, 2)
    for layer, window in enumerate((3, None, 5, 3, 1)):
        found = packed.attend(layer, *own, window)
        assert torch.equal(found, pack([Tree.plain(range(9)), Tree.plain(range(7))]).attend(layer, *own, window))


def test_sequences_of_similar_length_share_a_call_and_others_do_not() -> None:
    shortest_together = int(100 * GROUP_RATIO)
    assert len(pack([Tree.plain(range(length)) for length in (100, shortest_together)]).groups) == 1
    assert len(pack([Tree.plain(range(length)) for length in (100, shortest_together - 1)]).groups) == 2


@settings(max_examples=60, deadline=None)
@given(rows(), st.lists(st.integers(1, 70), min_size=1, max_size=3), WINDOWS, KV_HEADS)
def test_steady_attention_of_a_sequence_is_to_the_last_bit_what_it_is_alone(
    asked: Asked, plain: list[int], window: int | None, kv_heads: int
) -> None:
    branching, shared = asked
    sequences = branching + [Tree.merged([range(length)], shared)[0] for length in plain]
    # Where a window narrows what some see and not what others see, these are computed in another way alone.
    assume(window is None or all(window <= max(tree.positions) for tree in sequences))
    packed = pack(sequences)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "LONG", 12)
        patch.setattr(support, "HEAD_DIM", 64)  # smaller heads may be multiplied in another way
        own = projections(len(packed.tokens), kv_heads, dtype=torch.bfloat16)
        before = projections(shared, kv_heads, seed=1, dtype=torch.bfloat16)
        prefix = read_prefix(before, window) if shared else None
        together = packed.after(prefix).attend(0, *own, window, invariant=True)
        for tree, place in zip(sequences, places(packed, sequences), strict=True):
            queries, keys, values = (tensor[place] for tensor in own)
            alone = pack([tree]).after(prefix).attend(0, queries, keys, values, window, invariant=True)
            assert torch.equal(together[place], alone)
