"""Sequences that begin alike, as a tree: every common beginning is there once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Tree:
    """The tokens of one or many sequences, each common beginning once, depth first.

    One entry a token: its id, its position in its own sequence, and where in the tree what follows it ends: token i
    sees token j just if `j <= i < ends[j]`.
    """

    tokens: Sequence[int]
    positions: Sequence[int]
    ends: Sequence[int]

    @classmethod
    def plain(cls, tokens: Sequence[int]) -> Self:
        """A single sequence."""
        return cls(tokens, range(len(tokens)), (len(tokens),) * len(tokens))

    @classmethod
    def merged(cls, sequences: Sequence[Sequence[int]], start: int = 0) -> tuple[Self, list[list[int]]]:
        """The tree of some sequences, and where in it the tokens of each are; `start` is their first position."""
        children: list[dict[int, int]] = [{}]  # of each node, by token; node 0 stands before all sequences
        paths: list[list[int]] = []
        for sequence in sequences:
            node, path = 0, []
            for token in sequence:
                if token not in children[node]:
                    children[node][token] = len(children)
                    children.append({})
                node = children[node][token]
                path.append(node)
            paths.append(path)
        tokens: list[int] = []
        positions: list[int] = []
        places = [-1] * len(children)
        stack = [(token, node, start) for token, node in reversed(children[0].items())]
        while stack:
            token, node, position = stack.pop()
            places[node] = len(tokens)
            tokens.append(token)
            positions.append(position)
            stack += [(below, child, position + 1) for below, child in reversed(children[node].items())]
        ends = [0] * len(tokens)
        for place in reversed(range(len(tokens))):
            end = place + 1
            while end < len(tokens) and positions[end] > positions[place]:
                end = ends[end]
            ends[place] = end
        return cls(tokens, positions, ends), [[places[node] for node in path] for path in paths]

    @property
    def branches(self) -> bool:
        """Whether it is more than a single sequence."""
        return any(end != len(self.tokens) for end in self.ends)

    def __len__(self) -> int:
        return len(self.tokens)
