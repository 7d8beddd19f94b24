"""A network's tensors as a GGUF file holds them: names, order of rows, and what llama.cpp wants besides."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from services.exporter.gguf.layout import Layout
from services.exporter.gguf.numbers import decoder_of
from services.exporter.network import ExportedNetwork
from shared.network.shape import LayerShape, NetworkShape
from shared.network.tensors import EMBEDDINGS, HEAD, NORM, TensorSpec, tensors

NAMES = {
    EMBEDDINGS: "token_embd",
    NORM: "output_norm",
    HEAD: "output",
    "attention.norm": "attn_norm",
    "attention.query": "attn_q",
    "attention.key": "attn_k",
    "attention.value": "attn_v",
    "attention.output": "attn_output",
    "attention.query_norm": "attn_q_norm",
    "attention.key_norm": "attn_k_norm",
    "attention.post_norm": "post_attention_norm",
    "mlp.norm": "ffn_norm",
    "mlp.gate": "ffn_gate",
    "mlp.up": "ffn_up",
    "mlp.down": "ffn_down",
    "mlp.post_norm": "post_ffw_norm",
}
FREQUENCIES = "rope_freqs.weight"


@dataclass(frozen=True)
class FileTensor:
    """A tensor of the file: its name there, its size, and what gives its numbers when it is its turn."""

    name: str
    size: tuple[int, ...]
    numbers: Callable[[], Tensor]


def file_tensors(network: ExportedNetwork, layout: Layout, block: int, factors: Tensor | None) -> Iterator[FileTensor]:
    """Every tensor of the file. `block`: numbers that are held together; `factors`: what frequencies of the rotary
    embedding are divided by, if they are not those of its base alone."""
    weights, offset = dict(network.weights()), decoder_of(network).arithmetic.norm_offset
    shape, places = network.shape, written_layers(network.shape)
    if factors is not None:
        yield FileTensor(FREQUENCIES, tuple(factors.shape), lambda: factors)
    for spec in tensors(shape):
        tensor, added = weights[spec.name], offset if spec.kind == "norm" else 0
        if spec.layer is None:
            yield FileTensor(f"{NAMES[spec.part]}.weight", spec.size, _numbers(tensor, added, None))
        elif spec.layer in places:
            heads = _turned_heads(shape.layers[spec.layer], spec) if layout.permuted else None
            ending = "bias" if spec.bias else "weight"
            name = f"blk.{places[spec.layer]}.{NAMES[spec.part]}.{ending}"
            yield FileTensor(name, spec.size, _numbers(tensor, added, heads))
    for index, place in places.items():
        if shape.layers[index].mlp is None:
            yield from _empty_mlp(place, shape.layers[index].hidden, block)


def written_layers(shape: NetworkShape) -> dict[int, int]:
    """Where in the file the layers of a network stand: those that compute anything."""
    kept = [index for index, layer in enumerate(shape.layers) if layer.attention or layer.mlp]
    return {index: place for place, index in enumerate(kept)}


def file_width(layer: LayerShape, block: int) -> int:
    """Neurons of the layer's MLP in the file."""
    return layer.mlp_width or block


def _empty_mlp(place: int, hidden: int, block: int) -> Iterator[FileTensor]:
    """The smallest MLP, which adds nothing: llama.cpp leaves out the attention, too, of layers that have none."""
    for part, size in (("gate", (block, hidden)), ("up", (block, hidden)), ("down", (hidden, block))):
        yield FileTensor(f"blk.{place}.{NAMES[f'mlp.{part}']}.weight", size, lambda size=size: torch.zeros(size))  # type: ignore[misc]
    yield FileTensor(f"blk.{place}.{NAMES['mlp.norm']}.weight", (hidden,), lambda: torch.ones(hidden))


def _turned_heads(layer: LayerShape, spec: TensorSpec) -> int | None:
    """How many heads' rows are turned by a rotary embedding, if any are."""
    attention = layer.attention
    if attention is None or attention.rotary is None:
        return None
    return {"attention.query": attention.heads, "attention.key": attention.kv_heads}.get(spec.part)


def _numbers(tensor: Tensor, norm_offset: float, heads: int | None) -> Callable[[], Tensor]:
    def numbers() -> Tensor:
        if norm_offset:
            return tensor.float() + norm_offset
        return tensor if heads is None else interleaved(tensor, heads)

    return numbers


def interleaved(rows: Tensor, heads: int) -> Tensor:
    """The rows of queries or keys in the order for a rotary embedding that turns neighbouring numbers: those that were
    half a head apart stand side by side."""
    return rows.view(heads, 2, -1, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)
