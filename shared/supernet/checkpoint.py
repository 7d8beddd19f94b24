"""Hugging Face checkpoint directories: mapped into memory to be read, written whole or not at all."""

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from shared.architecture import Architecture, Quantization, dense, derive
from shared.errors import UserError, first_line
from shared.files import writing
from shared.json_text import parse_json
from shared.manifest import adapter, read_config
from shared.network.config import network_of
from shared.network.families import Arithmetic, family_of
from shared.network.shape import LayerShape, NetworkShape
from shared.network.tensors import EMBEDDINGS, HEAD, NAMES, NORM, layer_tensors, outer_tensors, tensors
from shared.supernet.config import transformers_config
from shared.supernet.decoder import Attention, Decoder, Layer, Linear, Mlp, Rotary
from shared.supernet.mapped import mapped_tensors
from shared.supernet.refitted import Refitted, read_refitted
from shared.text import shown

log = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = f"{WEIGHTS}.index.json"
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".gguf", ".pt")
"""Of the files in which networks are kept, by us or by others."""

STATIC_ROPE = ("default", "linear", "llama3", "yarn")
"""Rotary scalings that don't depend on the length of the sequence, which is not defined for a packed row."""


@dataclass(frozen=True)
class Checkpoint:
    """A decoder's weights under their Hugging Face names, mapped from the file: pages are read when they are used.

    `config` is what transformers makes of the network's family, without what single layers have of their own. A
    super-network may have down projections that were `refitted` for narrower MLPs.
    """

    directory: Path
    config: PretrainedConfig
    network: NetworkShape
    weights: Mapping[str, Tensor]
    refitted: Refitted = field(default_factory=dict)

    @classmethod
    def open(cls, directory: Path) -> "Checkpoint":
        """Map a checkpoint directory.

        Raises UserError if it is missing, truncated, of a family that isn't supported, or not what its config says.
        """
        described = cls.described(directory)
        return replace(
            described,
            weights=_belonging(_mapped_weights(directory), described.network, directory),
            refitted=read_refitted(directory, described.network),
        )

    @classmethod
    def described(cls, directory: Path) -> "Checkpoint":
        """What a checkpoint's `config.json` says of it, without any weights. Errors as of `open`."""
        config_file, values = directory / "config.json", read_config(directory)
        network = network_of(values, str(config_file))
        try:
            config = transformers_config(values)
        except Exception as error:  # transformers raises many kinds, all of which mean that this file can't be used
            raise UserError(f"{config_file}: transformers refuses it ({first_line(error)})") from error
        named = getattr(config, "transformers_weights", None)
        if named not in (None, WEIGHTS):
            raise UserError(
                f"{config_file}: transformers_weights names {shown(named)}, only {WEIGHTS} is supported; "
                "save the network again with transformers"
            )
        try:
            _rotaries(network, config)
        except UserError as error:
            raise UserError(f"{config_file}: {error}") from error
        except Exception as error:  # the same, of what transformers doesn't look at before it computes
            raise UserError(f"{config_file}: its rotary embedding can't be computed ({first_line(error)})") from error
        return cls(directory, config, network, {})

    def cut(self, architecture: Architecture | None = None, weights: Mapping[str, Tensor] | None = None) -> Decoder:
        """The sub-network of an architecture (default: the whole network), made of views: no copy, no memory.

        With INT8 only what is quantised takes memory, and it is quantised where it lies, a layer at a time.
        A narrower MLP has the down projection that was refitted for its width, if there is one. `weights` stands in for
        the mapped ones under the same names, for which nothing was refitted. Raises UserError if the architecture
        doesn't fit.
        """
        (network,) = self.cut_together([dense(self.network) if architecture is None else architecture], weights)
        return network

    def cut_together(
        self, architectures: Sequence[Architecture], weights: Mapping[str, Tensor] | None = None
    ) -> list[Decoder]:
        """`cut` several sub-networks: a layer that is the same in some of them is the same object there, made once."""
        source, refitted = (self.weights, self.refitted) if weights is None else (weights, {})
        made: dict[tuple[int, LayerShape, Quantization], Layer] = {}
        return [self._cut(architecture, source, refitted, made) for architecture in architectures]

    def _cut(
        self,
        architecture: Architecture,
        source: Mapping[str, Tensor],
        refitted: Refitted,
        made: dict[tuple[int, LayerShape, Quantization], Layer],
    ) -> Decoder:
        """A sub-network of the layers `made`, by index, shape and quantization; and of others, which are added."""
        network = derive(self.network, architecture)
        layers: list[Layer] = []
        for shape, index in zip(network.layers, architecture.layers, strict=True):
            key = index, shape, architecture.quantization
            if key not in made:
                narrowed = shape.mlp_width < self.network.layers[index].mlp_width
                down = refitted.get((index, shape.mlp_width)) if narrowed else None
                layer = cut_layer(network.family, shape, index, source, down)
                made[key] = _quantized(layer, architecture.quantization)
            layers.append(made[key])
        outer = {spec.part: source[spec.name] for spec in outer_tensors(network)}
        rotaries = _rotaries(network, self.config)
        return Decoder(
            shape=network,
            arithmetic=_arithmetic(network, self.config),
            embeddings=outer[EMBEDDINGS],
            layers=tuple(layers),
            norm=outer[NORM],
            head=outer.get(HEAD, outer[EMBEDDINGS]),
            rotaries={key: rotary.to(outer[EMBEDDINGS].device) for key, rotary in rotaries.items()},
        )


def _quantized(layer: Layer, quantization: Quantization) -> Layer:
    if quantization == "none":
        return layer
    from shared.supernet.int8 import quantize_layer  # loading bitsandbytes takes a second or two

    return quantize_layer(layer)


def _arithmetic(network: NetworkShape, config: PretrainedConfig) -> Arithmetic:
    return family_of(network.family).arithmetic(config)


def cut_layer(
    family: str, layer: LayerShape, index: int, source: Mapping[str, Tensor], down: Tensor | None = None
) -> Layer:
    """A layer made of those that a source holds for the layer `index`: as much of them as its shape says. `down` is its
    down projection, where that isn't one of the source."""
    blocks: dict[str, dict[str, Any]] = {"attention": {}, "mlp": {}, "": {}}
    for spec in layer_tensors(family, layer, index):
        whole = down if down is not None and spec.neurons == "columns" else source[spec.name]
        tensor = whole if whole.shape == spec.size else whole[tuple(slice(size) for size in spec.size)]
        block, _, field = spec.part.rpartition(".")
        if spec.bias:  # it comes right after its weight
            blocks[block][field] = Linear(blocks[block][field].weight, tensor)
        else:
            blocks[block][field] = Linear(tensor) if spec.kind == "linear" else tensor
    return Layer(
        attention=None if layer.attention is None else Attention(shape=layer.attention, **blocks["attention"]),
        mlp=None if layer.mlp is None else Mlp(shape=layer.mlp, **blocks["mlp"]),
        **blocks[""],
    )


def _rotaries(network: NetworkShape, config: PretrainedConfig) -> dict[tuple[str, int], Rotary]:
    """The rotary embeddings that the layers of a network ask for, by name and size of a head."""
    parameters = _arithmetic(network, config).rotaries
    attentions = [layer.attention for layer in network.layers if layer.attention is not None]
    asked = dict.fromkeys((one.rotary, one.head_dim) for one in attentions if one.rotary is not None)
    return {(name, head_dim): _rotary(config, parameters[name], head_dim) for name, head_dim in asked}


def _rotary(config: PretrainedConfig, parameters: Mapping[str, Any], head_dim: int) -> Rotary:
    kind = parameters.get("rope_type", "default")
    if kind not in STATIC_ROPE:
        raise UserError(f"rope_type {shown(kind)} is not supported; only {', '.join(STATIC_ROPE)} are")
    if parameters.get("partial_rotary_factor", 1) != 1:
        raise UserError("partial_rotary_factor is not supported: rotary embeddings turn whole heads")
    if kind == "default":
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float) / head_dim
        return Rotary(1.0 / parameters["rope_theta"] ** exponents, 1.0)
    flat = copy.deepcopy(config)  # with this embedding as the only one, and of this size
    flat.rope_parameters, flat.head_dim = dict(parameters), head_dim
    frequencies, scale = ROPE_INIT_FUNCTIONS[kind](flat, torch.device("cpu"))
    return Rotary(frequencies, scale)


@contextmanager
def writing_checkpoint(directory: Path) -> Iterator[None]:
    """Like `writing`, for what is written by safetensors, which reports a full disk in its own way."""
    with writing(directory):
        try:
            yield
        except SafetensorError as error:
            raise OSError(None, str(error)) from error


def holds_weights(directory: Path) -> bool:
    """Whether there is more in a directory than what describes a checkpoint: weights, of whatever kind."""
    return any(file.suffix in WEIGHT_SUFFIXES for file in directory.iterdir())


def weight_files(directory: Path) -> list[Path]:
    """The checkpoint's safetensors files: those that transformers reads, whatever else lies there.

    That is `model.safetensors`; only where there is none, those that the index names. Both lie there where networks
    were saved twice, in shards and whole. Raises UserError if there are none or one that the index names is missing.
    """
    whole, index_file = directory / WEIGHTS, directory / WEIGHTS_INDEX
    if whole.is_file():
        if index_file.exists():
            _tell_of_two(directory)
        return [whole]
    if not index_file.exists():
        found = adapter(directory)
        if found is not None:
            raise UserError(found)
        raise UserError(f"{whole}: missing; the checkpoint must hold its weights as safetensors")
    try:
        names = sorted(set(parse_json(index_file.read_bytes())["weight_map"].values()))
        files = [directory / name for name in names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index_file}: not a readable index of weights; copy the checkpoint again") from error
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: missing; the checkpoint must hold its weights as safetensors")
    return files


@cache
def _tell_of_two(directory: Path) -> None:
    """Once in a process: a checkpoint is opened several times."""
    log.warning(
        "%s holds both %s and %s: the former is read, as transformers does; remove the one that is out of date",
        directory,
        WEIGHTS,
        WEIGHTS_INDEX,
    )


def _mapped_weights(directory: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for file in weight_files(directory):
        weights |= mapped_tensors(file)
    return weights


def _belonging(weights: Mapping[str, Tensor], network: NetworkShape, directory: Path) -> dict[str, Tensor]:
    """The weights of the network, without what some checkpoints hold besides: a copy of a tied head, tables of
    angles. Of tied embeddings the head alone may be stored, which transformers takes as well."""
    if network.tied_embeddings and NAMES[EMBEDDINGS] not in weights and NAMES[HEAD] in weights:
        weights = {**weights, NAMES[EMBEDDINGS]: weights[NAMES[HEAD]]}
    expected = {spec.name: spec.size for spec in tensors(network)}
    for name, size in expected.items():
        if name not in weights:
            raise UserError(f"{directory}: tensor {name} is missing; the weights don't belong to this config.json")
        if tuple(weights[name].shape) != size:
            raise UserError(
                f"{directory}: tensor {name} is {tuple(weights[name].shape)}, config.json says {size}; "
                "the weights don't belong to this config.json"
            )
    head = weights.get(NAMES[HEAD])
    if network.tied_embeddings and head is not None and not torch.equal(head, weights[NAMES[EMBEDDINGS]]):
        raise UserError(
            f"{directory}: lm_head.weight is not the embeddings, as tie_word_embeddings in config.json says; "
            "set tie_word_embeddings to false there"
        )
    return {name: weights[name] for name in expected}
