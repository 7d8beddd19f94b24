"""Weights as safetensors files, written as they come: safetensors' own writer holds a whole file in memory.

A file is the length of its header in 8 bytes, little endian; the header, JSON padded with spaces to a multiple of 8
bytes; and the tensors' bytes one after the other.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from shared.supernet.checkpoint import WEIGHTS, WEIGHTS_INDEX

FLOATS = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}
DTYPES = FLOATS | {torch.int8: "I8", torch.uint8: "U8"}
"""What safetensors calls them."""
CHUNK = 2**26
"""Bytes that are copied at a time, about."""
SHARD_BYTES = 5 * 10**9


@dataclass(frozen=True)
class Weight:
    """A tensor to be written, as it is going to be; `make` gives it when it is written, so that what is computed for it
    is held no longer than that."""

    name: str
    dtype: torch.dtype
    size: tuple[int, ...]
    make: Callable[[], Tensor]

    @classmethod
    def of(cls, name: str, tensor: Tensor) -> "Weight":
        """A tensor that is there, which may be a view."""
        return cls(name, tensor.dtype, tuple(tensor.shape), lambda: tensor)

    @property
    def bytes(self) -> int:
        """Its bytes in the file."""
        return self.dtype.itemsize * math.prod(self.size)


@dataclass(frozen=True)
class WeightFile:
    """The weights of one file, in their order there."""

    name: str
    weights: tuple[Weight, ...]

    @cached_property
    def header(self) -> bytes:
        """All that comes before the tensors' bytes."""
        entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for weight in self.weights:
            end = offset + weight.bytes
            entries[weight.name] = {
                "dtype": DTYPES[weight.dtype],
                "shape": list(weight.size),
                "data_offsets": [offset, end],
            }
            offset = end
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    @property
    def bytes(self) -> int:
        """Of the file."""
        return len(self.header) + sum(weight.bytes for weight in self.weights)

    def write(self, directory: Path, progressed: Callable[[int], None]) -> None:
        """Write the file. Raises OSError where that isn't possible, ValueError for a weight that isn't what it says."""
        with (directory / self.name).open("wb") as file:
            _put(file, self.header, progressed)
            for weight in self.weights:
                tensor = weight.make()
                if (tensor.dtype, tuple(tensor.shape)) != (weight.dtype, weight.size):
                    raise ValueError(f"{weight.name}: {tensor.dtype} {tuple(tensor.shape)}, not {weight}")
                for rows in _chunks(tensor):
                    _put(file, rows.contiguous().reshape(-1).view(torch.uint8).numpy(), progressed)


def weight_files(weights: Iterable[Weight], most: int = SHARD_BYTES) -> list[WeightFile]:
    """Weights in files of at most `most` bytes of tensors each, unless a single tensor has more."""
    groups: list[list[Weight]] = [[]]
    size = 0
    for weight in weights:
        if groups[-1] and size + weight.bytes > most:
            groups.append([])
            size = 0
        groups[-1].append(weight)
        size += weight.bytes
    return [WeightFile(_name(number, len(groups)), _aligned(group)) for number, group in enumerate(groups, start=1)]


def write_weights(files: Sequence[WeightFile], directory: Path, progressed: Callable[[int], None]) -> None:
    """Write all files, and which holds which tensor; a single file needs no such index. Errors as of each file."""
    for file in files:
        file.write(directory, progressed)
    if len(files) > 1:
        total = sum(weight.bytes for file in files for weight in file.weights)
        placed = {weight.name: file.name for file in files for weight in file.weights}
        content = {"metadata": {"total_size": total}, "weight_map": placed}
        (directory / WEIGHTS_INDEX).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _aligned(group: list[Weight]) -> tuple[Weight, ...]:
    """Tensors of larger numbers first: each then begins at a multiple of its numbers' size."""
    return tuple(sorted(group, key=lambda weight: -weight.dtype.itemsize))


def _name(number: int, count: int) -> str:
    return WEIGHTS if count == 1 else WEIGHTS.replace(".", f"-{number:05}-of-{count:05}.")


def _chunks(tensor: Tensor) -> Iterator[Tensor]:
    """Rows of a tensor, as many at a time as make up a chunk."""
    tensor = tensor.detach().reshape(tensor.shape or (1,))
    rows = max(1, CHUNK * len(tensor) // max(1, tensor.nbytes))
    return iter(torch.split(tensor, rows))


def _put(file: BinaryIO, content: Any, progressed: Callable[[int], None]) -> None:
    file.write(content)
    progressed(len(content))
