"""Export formats that exist only in tests: a plain checkpoint, and the same with something wrong."""

import errno
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from torch import Tensor

from services.exporter import formats
from services.exporter.names import FormatName, GgufType
from services.exporter.network import ExportedNetwork
from services.exporter.protocol import Progressed
from shared.errors import UserError
from shared.manifest import read_config
from shared.network.config import config_of
from shared.network.sizes import parameters
from shared.supernet.saving import copy_companions, save_weights


class PlainFormat:
    """A checkpoint of the family, in which all layers must be alike."""

    name: FormatName = "hf"

    def __init__(self, gguf_type: GgufType | None = None) -> None:
        self.gguf_type = gguf_type

    def require_possible(self, network: ExportedNetwork) -> None:
        if len(set(network.architecture.mlp_widths)) > 1:
            raise UserError("a plain checkpoint can't hold layers of different widths; choose another format")

    def bytes(self, network: ExportedNetwork) -> int:
        return parameters(network.shape) * next(network.weights())[1].element_size()

    def write(self, network: ExportedNetwork, directory: Path, progressed: Progressed) -> None:
        assert not list(directory.iterdir())
        copy_companions(network.checkpoint.directory, directory)
        config = config_of(network.shape, read_config(network.checkpoint.directory), network.architecture.layers)
        (directory / "config.json").write_text(json.dumps(config))
        weights = self.changed(dict(network.weights()))
        save_weights(weights, directory)
        for tensor in weights.values():
            progressed(tensor.nbytes)

    def changed(self, weights: dict[str, Tensor]) -> Mapping[str, Tensor]:
        """What is written in place of the weights."""
        return weights


class WrongFormat(PlainFormat):
    """Forgets a twentieth of one norm."""

    def changed(self, weights: dict[str, Tensor]) -> Mapping[str, Tensor]:
        return {**weights, "model.norm.weight": 0.95 * weights["model.norm.weight"]}


class UnreadableFormat(PlainFormat):
    """Leaves out what can't be left out."""

    def changed(self, weights: dict[str, Tensor]) -> Mapping[str, Tensor]:
        del weights["model.embed_tokens.weight"]
        return weights


class FullDiskFormat(PlainFormat):
    """Finds the disk full after some files."""

    def changed(self, weights: dict[str, Tensor]) -> Mapping[str, Tensor]:
        raise OSError(errno.ENOSPC, "No space left on device")


class EndlessFormat(PlainFormat):
    """Says that it has begun, and doesn't end."""

    def changed(self, weights: dict[str, Tensor]) -> Mapping[str, Tensor]:
        print("begun", flush=True)
        time.sleep(600)
        return weights


class LackingFormat(PlainFormat):
    """Needs a package that isn't here."""

    def __init__(self, gguf_type: GgufType | None = None) -> None:
        raise ModuleNotFoundError("No module named 'gguf'", name="gguf")


@contextmanager
def exporting_with(writer: type[PlainFormat], name: FormatName = "hf") -> Iterator[None]:
    """Have a format written by one of these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(formats.WRITERS, name, (writer.__module__, writer.__qualname__))
        yield


if __name__ == "__main__":  # the command, with a format that doesn't end
    from services.cli.main import main

    sys.argv[0] = "nasfarm"
    with exporting_with(EndlessFormat):
        main()
