"""The types in which GGUF files hold numbers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray
from torch import Tensor

from services.exporter.network import ExportedNetwork
from shared.errors import UserError
from shared.supernet.decoder import Decoder

TypeName = Literal["f32", "f16", "bf16", "q8_0"]
Numbers = NDArray[np.generic]

BLOCK_NUMBERS = 2**22
"""That are converted at once: they stand in memory as float32, a few times over while they are rounded."""


@dataclass(frozen=True)
class NumberType:
    """How matrices are held; vectors are float32, as llama.cpp wants them. `file_type` is its name of all that."""

    held: GGMLQuantizationType
    file_type: LlamaFileType

    @property
    def block(self) -> int:
        """Numbers of a row that are held together, so that rows must be multiples of them."""
        return GGML_QUANT_SIZES[self.held][0]

    def of(self, size: tuple[int, ...]) -> GGMLQuantizationType:
        """What a tensor of a size is held as."""
        return self.held if len(size) > 1 else GGMLQuantizationType.F32

    def bytes(self, size: tuple[int, ...]) -> int:
        """Of a tensor of a size."""
        numbers, length = GGML_QUANT_SIZES[self.of(size)]
        return int(np.prod(size)) // numbers * length

    def converted(self, tensor: Tensor, name: str) -> Iterator[Numbers]:
        """A tensor as it is written, a block of rows at a time. Raises UserError, naming the tensor, for numbers that
        are too large for the type."""
        held = self.of(tuple(tensor.shape))
        for rows in row_blocks(tensor):
            with np.errstate(over="ignore"):
                piece = quantize(np.ascontiguousarray(rows.float().numpy()), held)
            if held == GGMLQuantizationType.F16 and not np.isfinite(piece).all():
                raise UserError(f"{name}: has numbers that float16 can't hold; export as bf16, q8_0 or f32")
            yield piece


TYPES: dict[TypeName, NumberType] = {
    "f32": NumberType(GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": NumberType(GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": NumberType(GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": NumberType(GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}


def row_blocks(tensor: Tensor) -> Iterator[Tensor]:
    """A tensor, a block of rows at a time."""
    yield from torch.split(tensor, max(1, BLOCK_NUMBERS // (tensor.numel() // len(tensor))))


def q8_0_rounded(tensor: Tensor) -> Tensor:
    """A matrix as it is read from a Q8_0 file: each 32 numbers of a row are whole numbers from -127 to 127 times a
    float16. In float32, which holds these products exactly; a vector stays what it is."""
    if tensor.dim() == 1:
        return tensor.float()
    rounded = torch.empty(tensor.shape, dtype=torch.float32)
    first, held = 0, GGMLQuantizationType.Q8_0
    for rows in row_blocks(tensor):
        numbers = dequantize(quantize(np.ascontiguousarray(rows.float().numpy()), held), held)
        rounded[first : first + len(rows)] = torch.from_numpy(numbers)
        first += len(rows)
    return rounded


def q8_0_network(network: ExportedNetwork) -> Decoder:
    """The network with the weights that its Q8_0 file holds, to be measured: a decoder like any other one, in float32,
    which `save_network` writes as a checkpoint. llama.cpp also rounds what goes into its matrices: that isn't in it."""
    return decoder_of(network).map(q8_0_rounded)


def decoder_of(network: ExportedNetwork) -> Decoder:
    """The network before quantisation, as views of the mapped files."""
    return network.checkpoint.cut(network.architecture.quantized("none"))
