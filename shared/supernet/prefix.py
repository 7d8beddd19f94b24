"""Reading once what many sequences begin with, such as the examples before all questions of a subject."""

from collections.abc import Sequence

import torch
from torch import Tensor

from shared.supernet.attention import KeysValues
from shared.supernet.packing import pack
from shared.supernet.segments import Segments
from shared.supernet.tree import Tree


class Prefix:
    """The beginning of other sequences. It is read together with them, before them: in each layer they find the keys
    and values that it left there.

    So only one layer's are ever held (shared prefixes as in cascade inference and RadixAttention, arXiv 2312.07104).
    """

    def __init__(self, tokens: Sequence[int], device: torch.device | str = "cpu") -> None:
        self._packed = pack([Tree.plain(tokens)], device)
        self._left: tuple[int, KeysValues] | None = None

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
        self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, window: int | None, steady: bool = False
    ) -> Tensor:
        self._left = layer, KeysValues(keys.permute(1, 2, 0).contiguous(), values.transpose(0, 1).contiguous())
        return self._packed.attend(layer, queries, keys, values, window)  # alone, and so steady in any case

    def left_in(self, layer: int) -> KeysValues:
        """The keys and values of a layer. Raises RuntimeError where the prefix has not been read there."""
        if self._left is None or self._left[0] != layer:
            raise RuntimeError(f"the prefix has not been read in layer {layer}: read it together with what follows it")
        return self._left[1]
