"""The segments of a row of tokens: they go through a network together, each computed as if it were alone."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Segments:
    """The segments of a row: `owners` (T,) says which one each token belongs to, numbered from 0 along the row, and
    `count` how many numbers there are."""

    owners: Tensor
    count: int
