"""safetensors files that are written a tensor at a time."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from services.exporter.weight_files import Weight, weight_files, write_weights
from shared.supernet.checkpoint import WEIGHTS, WEIGHTS_INDEX
from shared.supernet.checkpoint import weight_files as read_files


def test_tensors_of_several_kinds_are_aligned_and_strided_views_come_out_whole(tmp_path: Path) -> None:
    wide = torch.randn(5, 7)
    weights = {
        "bytes": torch.arange(-3, 4).to(torch.int8),
        "odd": torch.randn(3).bfloat16(),
        "view": wide[1:4, :3],
        "half": wide.half().T,
        "whole": wide,
    }
    (file,) = weight_files(Weight.of(name, tensor) for name, tensor in weights.items())
    counted: list[int] = []
    write_weights([file], tmp_path, counted.append)
    assert (tmp_path / WEIGHTS).stat().st_size == file.bytes == sum(counted)
    assert not (tmp_path / WEIGHTS_INDEX).exists()
    with safe_open(tmp_path / WEIGHTS, framework="pt") as opened:
        assert opened.metadata() == {"format": "pt"}
        assert all(torch.equal(opened.get_tensor(name), tensor) for name, tensor in weights.items())
    header = json.loads((tmp_path / WEIGHTS).read_bytes()[8 : len(file.header)])
    sizes = {"F32": 4, "F16": 2, "BF16": 2, "I8": 1}
    entries = [entry for name, entry in header.items() if name != "__metadata__"]
    assert all((len(file.header) + entry["data_offsets"][0]) % sizes[entry["dtype"]] == 0 for entry in entries)


def test_weights_of_several_files_have_an_index_and_are_read_as_one(tmp_path: Path) -> None:
    weights = {f"w{index}": torch.randn(3 + index, 5).to(torch.bfloat16) for index in range(6)}
    files = weight_files((Weight.of(name, tensor) for name, tensor in weights.items()), most=100)
    write_weights(files, tmp_path, lambda _: None)
    written = read_files(tmp_path)
    assert len(written) > 2
    total = sum(tensor.nbytes for tensor in weights.values())
    assert json.loads((tmp_path / WEIGHTS_INDEX).read_text())["metadata"]["total_size"] == total
    read = {}
    for file in written:
        held = load_file(file)
        assert sum(tensor.nbytes for tensor in held.values()) <= 100 or len(held) == 1
        read |= held
    assert all(torch.equal(read[name], tensor) for name, tensor in weights.items())


def test_a_weight_is_made_when_it_is_written_and_has_to_be_what_it_says(tmp_path: Path) -> None:
    made: list[str] = []

    def make(name: str) -> torch.Tensor:
        made.append(name)
        return torch.zeros(2, 2)

    weights = [Weight(name, torch.float32, (2, 2), lambda name=name: make(name)) for name in "ab"]  # type: ignore[misc]
    files = weight_files(weights)
    assert made == []
    write_weights(files, tmp_path, lambda _: None)
    assert made == ["a", "b"]
    other = weight_files([Weight("c", torch.float32, (2, 3), lambda: make("c"))])
    with pytest.raises(ValueError, match=r"c: torch\.float32 \(2, 2\), not"):
        write_weights(other, tmp_path, lambda _: None)
