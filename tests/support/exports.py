"""Networks to export, and how each format's directory is loaded again by what reads that format."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from services.exporter.huggingface import HuggingFace
from services.exporter.network import ExportedNetwork
from services.exporter.protocol import ExportFormat
from shared.architecture import Architecture, dense
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.packing import pack
from shared.supernet.tree import Tree
from tests.support.checkpoints import FAMILIES, WIDTH, logits_one_by_one, write_checkpoint
from tests.support.uneven import UNEVEN, write_uneven

LAYERED = Architecture(layers=(0, 2, 3), mlp_widths=(6, WIDTH, 11))
SHALLOW = Architecture(layers=(0, 2, 3), mlp_widths=(WIDTH,) * 3)
Logits = Callable[[Path, Sequence[Sequence[int]]], list[Tensor]]


class Exported(NamedTuple):
    """A format, what computes the logits (tokens, vocabulary) of each sequence from a directory of it, and which of
    NETWORKS it can't hold."""

    format: ExportFormat
    logits: Logits
    refused: frozenset[str] = frozenset()


def transformers_model(directory: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def transformers_logits(directory: Path, sequences: Sequence[Sequence[int]]) -> list[Tensor]:
    return logits_one_by_one(transformers_model(directory), sequences)


FORMATS = {"hf": Exported(HuggingFace(), transformers_logits)}
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
