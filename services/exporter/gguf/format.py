"""The format itself: one file, `model-TYPE.gguf`."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal, cast

import numpy as np
from gguf import GGUFWriter

from services.exporter.gguf.layout import Layout, layout_of
from services.exporter.gguf.metadata import add_metadata
from services.exporter.gguf.numbers import TYPES, Numbers, NumberType
from services.exporter.gguf.rotary import factors, require_rotary
from services.exporter.gguf.tensors import FileTensor, file_tensors
from services.exporter.gguf.vocabulary import read_vocabulary
from services.exporter.names import GgufType
from services.exporter.network import ExportedNetwork
from services.exporter.protocol import Progressed
from shared.errors import UserError

_ANY = np.dtype(np.float32)


@dataclass(frozen=True)
class Gguf:
    """GGUF with matrices of a type; `title`, `base_model` and `license` (such as apache-2.0) are said in the file where
    they are known."""

    type: GgufType = "f16"
    title: str | None = None
    base_model: str | None = None
    license: str | None = None
    name: ClassVar[Literal["gguf"]] = "gguf"

    @property
    def file_name(self) -> str:
        """What the file is called in its directory."""
        return f"model-{self.type.upper()}.gguf"

    def require_possible(self, network: ExportedNetwork) -> None:
        layout = layout_of(network.shape)
        require_rotary(network, layout)
        _require_blocks(self._tensors(network, layout), self.type)
        read_vocabulary(network)

    def bytes(self, network: ExportedNetwork) -> int:
        return sum(self._numbers.bytes(tensor.size) for tensor in self._tensors(network, layout_of(network.shape)))

    def write(self, network: ExportedNetwork, directory: Path, progressed: Progressed) -> None:
        self.require_possible(network)
        layout = layout_of(network.shape)
        writer, planned = GGUFWriter(directory / self.file_name, layout.name), self._tensors(network, layout)
        try:
            add_metadata(writer, network, self._numbers, layout)
            self._add_names(writer)
            read_vocabulary(network).add_to(writer)
            self._write(writer, planned, progressed)
        finally:
            writer.close()

    def _write(self, writer: GGUFWriter, planned: list[FileTensor], progressed: Progressed) -> None:
        """All names and sizes, then one tensor after the other."""
        numbers = self._numbers
        for tensor in planned:
            held = numbers.of(tensor.size)
            # The writer knows the sizes of bytes' arrays only by their type: any other dtype means "as the size says".
            writer.add_tensor_info(tensor.name, tensor.size, _ANY, numbers.bytes(tensor.size), raw_dtype=held)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in planned:
            pieces = numbers.converted(tensor.numbers(), tensor.name)
            # All that the writer asks of an array is its size, and to be written.
            writer.write_tensor_data(cast(Any, _Streamed(numbers.bytes(tensor.size), pieces, progressed)))

    def _add_names(self, writer: GGUFWriter) -> None:
        if self.title:
            writer.add_name(self.title)
        if self.license:
            writer.add_license(self.license)
        if self.base_model:
            writer.add_base_model_count(1)
            writer.add_base_model_name(0, self.base_model)

    def _tensors(self, network: ExportedNetwork, layout: Layout) -> list[FileTensor]:
        return list(file_tensors(network, layout, self._numbers.block, factors(network)))

    @property
    def _numbers(self) -> NumberType:
        return TYPES[self.type]


@dataclass(frozen=True)
class _Streamed:
    """A tensor that is never in memory as a whole."""

    nbytes: int
    pieces: Iterable[Numbers]
    progressed: Progressed

    def tofile(self, file: BinaryIO) -> None:
        """Write it."""
        for piece in self.pieces:
            piece.tofile(file)
            self.progressed(piece.nbytes)


def _require_blocks(planned: list[FileTensor], name: GgufType) -> None:
    """Raise UserError where rows can't be cut into whole blocks."""
    block = TYPES[name].block
    for tensor in planned:
        if len(tensor.size) > 1 and tensor.size[-1] % block:
            raise UserError(
                f"{name} holds {block} numbers together, but rows of {tensor.name} have {tensor.size[-1]}; "
                "export as f16, bf16 or f32"
            )
