"""Weights as safetensors files, written as they come: safetensors' own writer holds a whole file in memory.

A file is the length of its header in 8 bytes, little endian; the header, JSON padded with spaces to a multiple of 8
bytes; and the tensors' bytes one after the other.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from shared.supernet.checkpoint import WEIGHTS, WEIGHTS_INDEX

DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}
"""What safetensors calls them."""
CHUNK = 2**26
"""Bytes that are copied at a time, about."""


@dataclass(frozen=True)
class Shard:
    """The tensors of one file, in their order there; they may be views."""

    name: str
    weights: tuple[tuple[str, Tensor], ...]

    @cached_property
    def header(self) -> bytes:
        """All that comes before the tensors' bytes."""
        entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for name, tensor in self.weights:
            end = offset + _bytes(tensor)
            entries[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
            offset = end
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    @property
    def bytes(self) -> int:
        """Of the file."""
        return len(self.header) + sum(_bytes(tensor) for _, tensor in self.weights)

    def write(self, directory: Path, progressed: Callable[[int], None]) -> None:
        """Write the file. Raises OSError where that isn't possible."""
        with (directory / self.name).open("wb") as file:
            _put(file, self.header, progressed)
            for _, tensor in self.weights:
                for rows in _chunks(tensor):
                    _put(file, rows.contiguous().reshape(-1).view(torch.uint8).numpy(), progressed)


def shards(weights: Iterable[tuple[str, Tensor]], most: int) -> list[Shard]:
    """Weights in files of at most `most` bytes of tensors each, unless a single tensor has more."""
    groups: list[list[tuple[str, Tensor]]] = [[]]
    size = 0
    for name, tensor in weights:
        if groups[-1] and size + _bytes(tensor) > most:
            groups.append([])
            size = 0
        groups[-1].append((name, tensor))
        size += _bytes(tensor)
    return [Shard(_name(number, len(groups)), _aligned(group)) for number, group in enumerate(groups, start=1)]


def write_index(made: list[Shard], directory: Path) -> None:
    """Say which file holds which tensor; a single file needs no such index."""
    if len(made) > 1:
        total = sum(_bytes(tensor) for shard in made for _, tensor in shard.weights)
        files = {name: shard.name for shard in made for name, _ in shard.weights}
        content = {"metadata": {"total_size": total}, "weight_map": files}
        (directory / WEIGHTS_INDEX).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _aligned(group: list[tuple[str, Tensor]]) -> tuple[tuple[str, Tensor], ...]:
    """Tensors of larger numbers first: each then begins at a multiple of its numbers' size."""
    return tuple(sorted(group, key=lambda named: -named[1].element_size()))


def _name(number: int, count: int) -> str:
    return WEIGHTS if count == 1 else WEIGHTS.replace(".", f"-{number:05}-of-{count:05}.")


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _chunks(tensor: Tensor) -> Iterator[Tensor]:
    """Rows of a tensor, as many at a time as make up a chunk."""
    rows = max(1, CHUNK * len(tensor) // max(1, _bytes(tensor)))
    return iter(torch.split(tensor.detach(), rows))


def _put(file: BinaryIO, content: Any, progressed: Callable[[int], None]) -> None:
    file.write(content)
    progressed(len(content))
