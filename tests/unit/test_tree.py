"""Sequences that begin alike become one tree, and nothing of them is lost."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shared.supernet.tree import Tree
from tests.support.trees import SEQUENCES, ancestors

STARTS = st.integers(0, 30)


@given(SEQUENCES, STARTS)
def test_the_path_of_a_sequence_gives_it_back_with_its_positions(sequences: list[list[int]], start: int) -> None:
    tree, paths = Tree.merged(sequences, start)
    assert [[tree.tokens[place] for place in path] for path in paths] == sequences
    for path in paths:
        assert [tree.positions[place] for place in path] == list(range(start, start + len(path)))


@given(SEQUENCES, STARTS)
def test_a_token_sees_itself_and_what_stands_before_it_in_its_sequence_and_nothing_else(
    sequences: list[list[int]], start: int
) -> None:
    tree, paths = Tree.merged(sequences, start)
    before = {place: path[: at + 1] for path in paths for at, place in enumerate(path)}
    assert set(before) == set(range(len(tree)))
    for token, own in before.items():
        assert [place for place in range(len(tree)) if place <= token < tree.ends[place]] == own
        assert ancestors(tree.positions, token) == own


@given(SEQUENCES)
def test_every_common_beginning_is_there_once(sequences: list[list[int]]) -> None:
    tree, paths = Tree.merged(sequences)
    beginnings = {tuple(sequence[:length]) for sequence in sequences for length in range(1, len(sequence) + 1)}
    assert len(tree) == len(tree.positions) == len(tree.ends) == len(beginnings)
    for one, first in zip(sequences, paths, strict=True):
        for other, second in zip(sequences, paths, strict=True):
            shared = sum(a == b for a, b in zip(first, second, strict=False))
            alike = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
            assert shared == (min(len(one), len(other)) if alike is None else alike)


@given(SEQUENCES)
def test_a_tree_branches_unless_one_sequence_holds_all_others(sequences: list[list[int]]) -> None:
    longest = max(sequences, key=len, default=[])
    single = all(longest[: len(sequence)] == sequence for sequence in sequences)
    assert Tree.merged(sequences)[0].branches == (not single)


@given(st.lists(st.integers(0, 2), max_size=9))
def test_a_single_sequence_is_the_tree_of_itself(sequence: list[int]) -> None:
    plain, (merged, (path,)) = Tree.plain(sequence), Tree.merged([sequence])
    assert path == list(range(len(sequence)))
    for name in ("tokens", "positions", "ends"):
        assert list(getattr(plain, name)) == list(getattr(merged, name))
    assert not plain.branches and len(plain) == len(sequence)


def test_sequences_that_begin_differently_make_a_forest() -> None:
    tree, paths = Tree.merged([[5, 6], [7], [5, 8, 9], [7]], start=4)
    assert tree == Tree([5, 6, 8, 9, 7], [4, 5, 5, 6, 4], [4, 2, 4, 4, 5])
    assert paths == [[0, 1], [4], [0, 2, 3], [4]]
    assert tree.branches


def test_nothing_is_a_tree_without_tokens() -> None:
    for sequences in ([], [[]], [[], []]):
        tree, paths = Tree.merged(sequences)
        assert len(tree) == 0 and not tree.branches and paths == sequences


def test_a_very_long_sequence_needs_no_recursion() -> None:
    tree, paths = Tree.merged([range(20_000), [*range(19_999), -1]])
    assert len(tree) == 20_001 and paths[1][-1] == 20_000
    assert tree.ends[0] == 20_001 and list(tree.ends[19_998:]) == [20_001, 20_000, 20_001]
    assert all(after >= before for before, after in pairwise(tree.positions))
