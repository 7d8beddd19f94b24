"""safetensors files, written a tensor at a time (https://huggingface.co/docs/safetensors, "Format")."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from shared.supernet.checkpoint import WEIGHTS, WEIGHTS_INDEX

SHARD_BYTES = 5 * 10**9
DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int8: "I8"}


@dataclass(frozen=True)
class Entry:
    """A tensor that is going to be written."""

    name: str
    dtype: torch.dtype
    size: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Its bytes in the file."""
        return self.dtype.itemsize * torch.Size(self.size).numel()


def write_weights(
    entries: Sequence[Entry],
    weights: Iterable[tuple[str, Tensor]],
    directory: Path,
    progressed: Callable[[int], None],
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write tensors, which come in the entries' order, into one file, or with an index into several, of which each
    holds `shard_bytes` at most, or a single tensor. Raises ValueError for a tensor that isn't what its entry says."""
    shards, coming = list(_shards(entries, shard_bytes)), iter(weights)
    names = [WEIGHTS]
    if len(shards) > 1:
        names = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        _write(shard, islice(coming, len(shard)), directory / name, progressed)
    if len(shards) > 1:
        placed = {entry.name: name for name, shard in zip(names, shards, strict=True) for entry in shard}
        index = {"metadata": {"total_size": sum(entry.bytes for entry in entries)}, "weight_map": placed}
        (directory / WEIGHTS_INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _shards(entries: Sequence[Entry], most: int) -> Iterator[list[Entry]]:
    shard: list[Entry] = []
    for entry in entries:
        if shard and sum(one.bytes for one in shard) + entry.bytes > most:
            yield shard
            shard = []
        shard.append(entry)
    yield shard


def _write(
    entries: Sequence[Entry], weights: Iterable[tuple[str, Tensor]], file: Path, progressed: Callable[[int], None]
) -> None:
    described: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for entry in entries:
        start, end = end, end + entry.bytes
        described[entry.name] = {"dtype": DTYPES[entry.dtype], "shape": entry.size, "data_offsets": [start, end]}
    text = json.dumps(described).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for entry, (name, tensor) in zip(entries, weights, strict=True):
            if (name, tensor.dtype, tuple(tensor.shape)) != (entry.name, entry.dtype, entry.size):
                raise ValueError(f"{name}: {tensor.dtype} {tuple(tensor.shape)}, not {entry}")
            out.write(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)
            progressed(entry.bytes)
