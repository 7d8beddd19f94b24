"""Export formats that exist only in tests: a Hugging Face checkpoint with something wrong."""

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from services.exporter import formats
from services.exporter.huggingface import HuggingFace
from services.exporter.network import ExportedNetwork
from services.exporter.protocol import Progressed
from shared.supernet.checkpoint import WEIGHTS
from tests.support.forked import command

BEGUN = "begun"
"""Said by a format that doesn't end."""


class WrongFormat(HuggingFace):
    """Forgets a twentieth of one norm."""

    def write(self, network: ExportedNetwork, directory: Path, progressed: Progressed) -> None:
        super().write(network, directory, progressed)
        weights = {name: tensor.clone() for name, tensor in load_file(directory / WEIGHTS).items()}
        self.change(weights)
        save_file(weights, directory / WEIGHTS, metadata={"format": "pt"})

    def change(self, weights: dict[str, Tensor]) -> None:
        weights["model.norm.weight"] *= 0.95


class UnreadableFormat(WrongFormat):
    """Leaves out what can't be left out."""

    def change(self, weights: dict[str, Tensor]) -> None:
        del weights["model.embed_tokens.weight"]


class EmptyFormat(WrongFormat):
    """Writes nothing but zeros in INT8, as transformers makes of weights that aren't quantised."""

    def change(self, weights: dict[str, Tensor]) -> None:
        for name, tensor in weights.items():
            if name.endswith("_proj.weight"):
                tensor.zero_()


class FullDiskFormat(WrongFormat):
    """Finds the disk full after some files."""

    def change(self, weights: dict[str, Tensor]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


class EndlessFormat(WrongFormat):
    """Says that it has begun, and doesn't end."""

    def change(self, weights: dict[str, Tensor]) -> None:
        print(BEGUN, flush=True)
        while True:  # a signal that comes right before a sleep is handled after it
            time.sleep(0.05)


@contextmanager
def exporting_with(writer: type[HuggingFace]) -> Iterator[None]:
    """Have Hugging Face checkpoints written by one of these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(formats.WRITERS, "hf", lambda *_: writer())
        yield


def export_endlessly(arguments: list[str]) -> None:
    """Run the `nasfarm` command in this process, which is its own, with a format that doesn't end."""
    with exporting_with(EndlessFormat):
        command(arguments)
