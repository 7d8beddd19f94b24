"""A prefix that many sequences share, such as the examples before all questions of a subject, computed once for all."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from shared.supernet.attention import KeysValues
from shared.supernet.packing import Packed, pack
from shared.supernet.segments import Segments
from shared.supernet.tree import Tree


class Prefix:
    """The beginning of other sequences. It goes through each layer just before them, and they attend to the keys and
    values that it has there.

    So only one layer's are ever held (shared prefixes as in cascade inference and RadixAttention, arXiv 2312.07104).
    They are those of one network: another one gets a prefix of its own, of the same row.
    """

    def __init__(self, row: Packed) -> None:
        self._packed = row
        self._cached: tuple[int, KeysValues] | None = None

    @classmethod
    def of(cls, tokens: Sequence[int], device: torch.device | str = "cpu") -> Self:
        """The prefix of some tokens."""
        return cls(pack([Tree.plain(tokens)], device))

    @property
    def tokens(self) -> Tensor:
        return self._packed.tokens

    @property
    def positions(self) -> Tensor:
        return self._packed.positions

    @property
    def segments(self) -> Segments:
        return self._packed.segments

    def attend(
        self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, window: int | None, invariant: bool = False
    ) -> Tensor:
        self._cached = layer, KeysValues(keys.permute(1, 2, 0).contiguous(), values.transpose(0, 1).contiguous())
        return self._packed.attend(layer, queries, keys, values, window)  # alone, so batch-invariant in any case

    def keys_values(self, layer: int) -> KeysValues:
        """The keys and values of a layer. Raises RuntimeError where the prefix has not been through it just before."""
        if self._cached is None or self._cached[0] != layer:
            raise RuntimeError(f"the prefix has not been read in layer {layer}: read it together with what follows it")
        return self._cached[1]
