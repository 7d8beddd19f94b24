"""Hugging Face checkpoint directories: mapped into memory to be read, written whole or not at all."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from shared.architecture import Architecture
from shared.errors import UserError, first_line
from shared.files import writing
from shared.json_text import parse_json
from shared.manifest import adapter, read_shape
from shared.shape import ModelShape
from shared.space import check_fits, dense
from shared.supernet.decoder import Decoder, Layer, Linear, Rotary
from shared.text import shown

log = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = f"{WEIGHTS}.index.json"
EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"

STATIC_ROPE = ("default", "linear", "llama3", "yarn")
"""Rotary scalings that don't depend on the length of the sequence, which is not defined for a packed row."""


@dataclass(frozen=True)
class Checkpoint:
    """A decoder's weights under their Hugging Face names, mapped from the file: pages are read when they are used."""

    directory: Path
    config: PretrainedConfig
    shape: ModelShape
    weights: Mapping[str, Tensor]

    @classmethod
    def open(cls, directory: Path) -> "Checkpoint":
        """Map a checkpoint directory.

        Raises UserError if it is missing, truncated, of a family that isn't supported, or not what its config says.
        """
        config_file = directory / "config.json"
        shape = read_shape(directory)
        try:
            config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
        except Exception as error:  # transformers raises many kinds, all of which mean that this file is no good
            raise UserError(f"{config_file}: transformers refuses it ({first_line(error)})") from error
        named = getattr(config, "transformers_weights", None)
        if named not in (None, WEIGHTS):
            raise UserError(
                f"{config_file}: transformers_weights names {shown(named)}, only {WEIGHTS} is supported; "
                "save the network again with transformers"
            )
        rope = (config.rope_parameters or {}).get("rope_type", "default")
        if rope not in STATIC_ROPE:
            known = ", ".join(STATIC_ROPE)
            raise UserError(f"{config_file}: rope_type {shown(rope)} is not supported; only {known} are")
        return cls(directory, config, shape, _belonging(_mapped_weights(directory), shape, directory))

    def cut(self, architecture: Architecture | None = None, weights: Mapping[str, Tensor] | None = None) -> Decoder:
        """The sub-network of an architecture (default: the whole network), made of views: no copy, no memory.

        With INT8 only what is quantised takes memory, and it is quantised where it lies, a layer at a time.
        `weights` stands in for the mapped ones under the same names. Raises UserError if the architecture doesn't fit.
        """
        source = self.weights if weights is None else weights
        chosen = dense(self.shape) if architecture is None else architecture
        check_fits(self.shape, chosen)
        embeddings = source[EMBEDDINGS]
        layers: Iterator[Layer] = (
            self._layer(source, index, width) for index, width in zip(chosen.layers, chosen.mlp_widths, strict=True)
        )
        if chosen.quantization == "int8":
            from shared.supernet.int8 import quantize_layer  # loading bitsandbytes takes a second or two

            layers = map(quantize_layer, layers)
        return Decoder(
            shape=self.shape,
            embeddings=embeddings,
            layers=tuple(layers),
            norm=source["model.norm.weight"],
            head=embeddings if self.shape.tied_embeddings else source[HEAD],
            rotary=self._rotary(),
            norm_epsilon=self.config.rms_norm_eps,
        )

    def _layer(self, source: Mapping[str, Tensor], index: int, width: int) -> Layer:
        """A layer with only the first `width` MLP neurons."""
        prefix = f"model.layers.{index}."

        def linear(name: str, outputs: int | None = None, inputs: int | None = None) -> Linear:
            weight, bias = source[f"{prefix}{name}.weight"], source.get(f"{prefix}{name}.bias")
            return Linear(weight[:outputs, :inputs], None if bias is None else bias[:outputs])

        return Layer(
            attention_norm=source[f"{prefix}input_layernorm.weight"],
            query=linear("self_attn.q_proj"),
            key=linear("self_attn.k_proj"),
            value=linear("self_attn.v_proj"),
            output=linear("self_attn.o_proj"),
            query_norm=source.get(f"{prefix}self_attn.q_norm.weight"),
            key_norm=source.get(f"{prefix}self_attn.k_norm.weight"),
            mlp_norm=source[f"{prefix}post_attention_layernorm.weight"],
            gate=linear("mlp.gate_proj", outputs=width),
            up=linear("mlp.up_proj", outputs=width),
            down=linear("mlp.down_proj", inputs=width),
            window=self._window(index),
        )

    def _window(self, index: int) -> int | None:
        window: int | None = getattr(self.config, "sliding_window", None)
        if self.shape.family in ("qwen2", "qwen3") and self.config.layer_types[index] != "sliding_attention":
            return None
        return window if self.shape.family != "llama" else None

    def _rotary(self) -> Rotary:
        parameters: dict[str, Any] = self.config.rope_parameters
        if parameters["rope_type"] == "default":
            exponents = torch.arange(0, self.shape.head_dim, 2, dtype=torch.float) / self.shape.head_dim
            return Rotary(1.0 / parameters["rope_theta"] ** exponents, 1.0)
        frequencies, scale = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](self.config, torch.device("cpu"))
        return Rotary(frequencies, scale)


def expected_weights(shape: ModelShape) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a checkpoint of this shape."""
    hidden, queries, keys = shape.hidden_size, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    expected: dict[str, tuple[int, ...]] = {
        EMBEDDINGS: (shape.vocab_size, hidden),
        "model.norm.weight": (hidden,),
    }
    if not shape.tied_embeddings:
        expected[HEAD] = (shape.vocab_size, hidden)
    linear = {
        "self_attn.q_proj": (queries, hidden, shape.qkv_bias),
        "self_attn.k_proj": (keys, hidden, shape.qkv_bias),
        "self_attn.v_proj": (keys, hidden, shape.qkv_bias),
        "self_attn.o_proj": (hidden, queries, shape.output_bias),
        "mlp.gate_proj": (shape.mlp_width, hidden, shape.mlp_bias),
        "mlp.up_proj": (shape.mlp_width, hidden, shape.mlp_bias),
        "mlp.down_proj": (hidden, shape.mlp_width, shape.mlp_bias),
    }
    norms = {"input_layernorm": hidden, "post_attention_layernorm": hidden}
    if shape.qk_norm:
        norms |= {"self_attn.q_norm": shape.head_dim, "self_attn.k_norm": shape.head_dim}
    for index in range(shape.layers):
        for name, (outputs, inputs, bias) in linear.items():
            expected[f"model.layers.{index}.{name}.weight"] = (outputs, inputs)
            if bias:
                expected[f"model.layers.{index}.{name}.bias"] = (outputs,)
        for name, size in norms.items():
            expected[f"model.layers.{index}.{name}.weight"] = (size,)
    return expected


@contextmanager
def writing_checkpoint(directory: Path) -> Iterator[None]:
    """Like `writing`, for what is written by safetensors, which reports a full disk in its own way."""
    with writing(directory):
        try:
            yield
        except SafetensorError as error:
            raise OSError(None, str(error)) from error


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
        try:
            with safe_open(file, framework="pt") as mapped:
                weights |= {name: mapped.get_tensor(name) for name in mapped.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{file}: truncated or not a safetensors file ({error}); copy the checkpoint again"
            ) from error
    return weights


def _belonging(weights: Mapping[str, Tensor], shape: ModelShape, directory: Path) -> dict[str, Tensor]:
    """The weights of the network, without what some checkpoints hold besides: a copy of a tied head, tables of
    angles. Of tied embeddings the head alone may be stored, which transformers takes as well."""
    expected = expected_weights(shape)
    if shape.tied_embeddings and EMBEDDINGS not in weights and HEAD in weights:
        weights = {**weights, EMBEDDINGS: weights[HEAD]}
    for name, size in expected.items():
        if name not in weights:
            raise UserError(f"{directory}: tensor {name} is missing; the weights don't belong to this config.json")
        if tuple(weights[name].shape) != size:
            raise UserError(
                f"{directory}: tensor {name} is {tuple(weights[name].shape)}, config.json says {size}; "
                "the weights don't belong to this config.json"
            )
    head = weights.get(HEAD)
    if shape.tied_embeddings and head is not None and not torch.equal(head, weights[EMBEDDINGS]):
        raise UserError(
            f"{directory}: lm_head.weight is not the embeddings, as tie_word_embeddings in config.json says; "
            "set tie_word_embeddings to false there"
        )
    return {name: weights[name] for name in expected}
