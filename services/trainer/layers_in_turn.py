"""Layers of a network in training that are cut out of the weights one by one, as the pass comes to them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from shared.supernet.decoder import Layer


@dataclass(frozen=True)
class LayersInTurn(Sequence[Layer]):
    """So many layers; each is cut anew whenever it is asked for.

    The backward pass goes through everything in the reverse order in which it was made. So a weight has its gradient
    when the pass is through with its layer; were all layers cut before the first one runs, the gradients of those parts
    that a sub-network has of the weights would wait for one another until the end, and with them what is to become of
    them.
    """

    depth: int
    cut: Callable[[int], Layer]

    def __len__(self) -> int:
        return self.depth

    def __iter__(self) -> Iterator[Layer]:
        return (self.cut(place) for place in range(self.depth))

    @overload
    def __getitem__(self, place: int) -> Layer: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Layer]: ...

    def __getitem__(self, place: int | slice) -> Layer | Sequence[Layer]:
        places = range(self.depth)[place]
        return self.cut(places) if isinstance(places, int) else [self.cut(each) for each in places]
