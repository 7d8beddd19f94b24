"""Networks to export, and how each format's directory is loaded again by what reads that format."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import metadata_load
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from services.exporter.gguf import Gguf
from services.exporter.huggingface import HuggingFace
from services.exporter.network import ExportedNetwork
from services.exporter.protocol import ExportFormat
from services.exporter.vllm import Vllm
from shared.architecture import Architecture, dense
from shared.manifest import EXPORT
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.packing import pack
from shared.supernet.tree import Tree
from tests.support.checkpoints import FAMILIES, WIDTH, logits_one_by_one, write_checkpoint
from tests.support.uneven import UNEVEN, write_uneven

LAYERED = Architecture(layers=(0, 2, 3), mlp_widths=(6, WIDTH, 11))
SHALLOW = Architecture(layers=(0, 2, 3), mlp_widths=(WIDTH,) * 3)
Logits = Callable[[Path, Sequence[Sequence[int]]], list[Tensor]]


class Exported(NamedTuple):
    """A format; how many of NETWORKS it can't hold; and what computes the logits (tokens, vocabulary) of each sequence
    from a directory of it (None: an engine does that elsewhere, by whose greedy tokens the format is tested)."""

    format: ExportFormat
    refused: int
    logits: Logits | None = None


def transformers_model(directory: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def transformers_logits(directory: Path, sequences: Sequence[Sequence[int]]) -> list[Tensor]:
    return logits_one_by_one(transformers_model(directory), sequences)


FORMATS = {
    "hf": Exported(HuggingFace(), 0, transformers_logits),
    "vllm": Exported(Vllm(), 15),
    "gguf": Exported(Gguf("f32"), 27),
}
"""Other formats are added here; the contract suite then runs for them."""

NETWORKS = [
    *(f"{family}, {what}" for family in FAMILIES for what in ("layered", "shallow", "dense")),
    *UNEVEN,
]


def network(directory: Path, name: str) -> ExportedNetwork:
    """One of NETWORKS, cut out of a checkpoint that is written to a directory."""
    if name in UNEVEN:
        write_uneven(directory, name)
        checkpoint = Checkpoint.open(directory)
        return ExportedNetwork(checkpoint, dense(checkpoint.network))
    family, what = name.split(", ")
    write_checkpoint(directory, family)
    checkpoint = Checkpoint.open(directory)
    chosen = {"layered": LAYERED, "shallow": SHALLOW, "dense": dense(checkpoint.network)}
    return ExportedNetwork(checkpoint, chosen[what])


@torch.inference_mode()
def own_logits(exported: ExportedNetwork, sequences: Sequence[Sequence[int]]) -> list[Tensor]:
    """What our own decoder says, before any quantisation."""
    decoder = exported.checkpoint.cut(exported.architecture.quantized("none"))
    packed = pack([Tree.plain(tokens) for tokens in sequences])
    logits = decoder.logits(decoder.hidden(packed))
    return [logits[start : start + len(tokens)] for start, tokens in zip(packed.starts, sequences, strict=True)]


def written(exported: ExportedNetwork, form: ExportFormat, directory: Path) -> Path:
    """The directory in which an export lies now."""
    directory.mkdir()
    form.write(exported, directory, lambda _: None)
    return directory


def record_of(directory: Path) -> dict[str, Any]:
    """What an export that the command has put in its place says of itself. It has its card, holds what the record names
    and nothing else, and nothing is left beside it."""
    found: dict[str, Any] = json.loads((directory / EXPORT).read_text(encoding="utf-8"))
    held = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}
    assert held == {EXPORT, *found["files"]} >= {"README.md", "layers.svg"}
    assert metadata_load(directory / "README.md")
    assert not list(directory.parent.glob(f".{directory.name}.*"))
    return found


def nothing_is_left(directory: Path = Path("exports")) -> bool:
    """Whether no export lies there, whole or not."""
    return not directory.exists() or not list(directory.iterdir())
