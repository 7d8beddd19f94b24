"""Every tensor of a network: the one table from which names, sizes, cutting, ordering and quantising derive."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

from shared.network.families import family_of
from shared.network.shape import LayerShape, NetworkShape

Kind = Literal["embeddings", "head", "norm", "linear", "shortcut"]
"""Of what a tensor is part: `linear` are the layers' linear layers, which INT8 quantises."""

EMBEDDINGS, NORM, HEAD = "embeddings", "norm", "head"
NAMES = {EMBEDDINGS: "model.embed_tokens.weight", NORM: "model.norm.weight", HEAD: "lm_head.weight"}
"""The parts outside the layers, and what every family's checkpoints call them."""


@dataclass(frozen=True)
class TensorSpec:
    """One tensor.

    `name`: what it is called in a Hugging Face checkpoint; `layer`: the layer's place, None outside the layers; `part`:
    where it stands in the decoder, such as `attention.query`; `columns`: None for a vector of `rows` numbers; `bias`:
    whether it is the bias of a linear layer; `neurons`: the dimension along which MLP neurons lie.
    """

    name: str
    layer: int | None
    part: str
    kind: Kind
    rows: int
    columns: int | None = None
    bias: bool = False
    neurons: Literal["rows", "columns"] | None = None

    @cached_property
    def size(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return (self.rows,) if self.columns is None else (self.rows, self.columns)

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return self.rows * (self.columns or 1)


def tensors(network: NetworkShape) -> Iterator[TensorSpec]:
    """Every tensor of a network, each once: tied embeddings are no head."""
    yield from outer_tensors(network)
    for index, layer in enumerate(network.layers):
        yield from layer_tensors(network.family, layer, index)


def outer_tensors(network: NetworkShape) -> Iterator[TensorSpec]:
    """The tensors outside the layers."""
    yield TensorSpec(NAMES[EMBEDDINGS], None, EMBEDDINGS, "embeddings", network.vocab_size, network.hidden)
    yield TensorSpec(NAMES[NORM], None, NORM, "norm", network.outputs)
    if not network.tied_embeddings:
        yield TensorSpec(NAMES[HEAD], None, HEAD, "head", network.vocab_size, network.outputs)


@lru_cache(maxsize=4096)
def layer_tensors(family: str, layer: LayerShape, index: int) -> tuple[TensorSpec, ...]:
    """The tensors of a layer that stands at a place in a checkpoint of a family. They are cached: a search cuts the
    same layers again and again."""
    return tuple(_layer_tensors(family, layer, index))


def _layer_tensors(family: str, layer: LayerShape, index: int) -> Iterator[TensorSpec]:
    names = family_of(family).names

    def name(part: str, ending: str = "weight") -> str:
        return f"model.layers.{index}.{names[part]}.{ending}"

    def norm(part: str, size: int) -> TensorSpec:
        return TensorSpec(name(part), index, part, "norm", size)

    def shortcut(part: str, rows: int, columns: int) -> TensorSpec:
        return TensorSpec(name(part), index, part, "shortcut", rows, columns)

    def linear(
        part: str, rows: int, columns: int, bias: bool, neurons: Literal["rows", "columns"] | None = None
    ) -> Iterator[TensorSpec]:
        yield TensorSpec(name(part), index, part, "linear", rows, columns, neurons=neurons)
        if bias:
            along = neurons if neurons == "rows" else None
            yield TensorSpec(name(part, "bias"), index, part, "linear", rows, bias=True, neurons=along)

    # In the order of earlier releases, new parts last: sums over all gradients depend on it to the last bit.
    attention, mlp = layer.attention, layer.mlp
    if attention is not None:
        yield from linear("attention.query", attention.queries, layer.hidden, attention.qkv_bias)
        yield from linear("attention.key", attention.keys, layer.hidden, attention.qkv_bias)
        yield from linear("attention.value", attention.keys, layer.hidden, attention.qkv_bias)
        yield from linear("attention.output", layer.between, attention.queries, attention.output_bias)
    if mlp is not None:
        yield from linear("mlp.gate", mlp.width, layer.between, mlp.bias, neurons="rows")
        yield from linear("mlp.up", mlp.width, layer.between, mlp.bias, neurons="rows")
        yield from linear("mlp.down", layer.outputs, mlp.width, mlp.bias, neurons="columns")
    if attention is not None:
        yield norm("attention.norm", layer.hidden)
    if mlp is not None:
        yield norm("mlp.norm", layer.between)
    if attention is not None and attention.qk_norm:
        yield norm("attention.query_norm", attention.head_dim)
        yield norm("attention.key_norm", attention.head_dim)
    if attention is not None and attention.post_norm:
        yield norm("attention.post_norm", layer.between)
    if mlp is not None and mlp.post_norm:
        yield norm("mlp.post_norm", layer.outputs)
    if layer.attention_shortcut is not None:
        yield shortcut("attention_shortcut", layer.between, layer.hidden)
    if layer.mlp_shortcut is not None:
        yield shortcut("mlp_shortcut", layer.outputs, layer.between)
