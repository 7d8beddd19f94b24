"""The processes that train a network together, as what they do one by one sees them."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from torch import Tensor

T = TypeVar("T")


class Processes(Protocol):
    """All that take part, of which this is the `rank`-th; each method but `first` is called by all of them at once.

    Of each weight, and of what belongs to its rows, a process holds some of the rows.
    """

    @property
    def rank(self) -> int:
        """This process's number, from 0."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    @property
    def first(self) -> bool:
        """Whether this is the one that reports, and writes what is written once."""
        ...

    def wait(self) -> None:
        """Wait until all are here."""
        ...

    def agree(self, value: T) -> T:
        """The first process's value."""
        ...

    def summed(self, numbers: Sequence[float]) -> list[float]:
        """The sum of each number over all processes."""
        ...

    def local(self, weight: Tensor) -> Tensor:
        """The rows of a weight, or its gradient, that this process holds: in the same memory, and trained by itself."""
        ...

    def whole(self, weight: Tensor) -> Tensor:
        """A weight with the rows of all processes."""
        ...

    def joint_norm(self, norm: Tensor) -> Tensor:
        """The norm of what has this norm in each process."""
        ...

    def together(self, rows: Tensor, weight: Tensor) -> Tensor:
        """What all hold of something of which this process has `rows`, those that it has of the weight too; something
        without rows is the same everywhere."""
        ...

    def rows(self, whole: Tensor, weight: Tensor) -> Tensor:
        """This process's rows of something whole that belongs to a weight, in memory of their own where that is on the
        device `meta`."""
        ...


class SingleProcess:
    """One that trains alone, and holds everything whole."""

    rank, size, first = 0, 1, True

    def wait(self) -> None:
        """There is nobody to wait for."""

    def agree(self, value: T) -> T:
        return value

    def summed(self, numbers: Sequence[float]) -> list[float]:
        return list(numbers)

    def local(self, weight: Tensor) -> Tensor:
        return weight

    def whole(self, weight: Tensor) -> Tensor:
        return weight

    def joint_norm(self, norm: Tensor) -> Tensor:
        return norm

    def together(self, rows: Tensor, weight: Tensor) -> Tensor:
        return rows

    def rows(self, whole: Tensor, weight: Tensor) -> Tensor:
        return whole.new_empty(whole.shape, device="cpu") if whole.is_meta else whole


ALONE: Processes = SingleProcess()
