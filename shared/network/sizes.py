"""How large a network is: exact numbers, computed and never predicted."""

from collections.abc import Iterable
from functools import lru_cache

from shared.architecture import Quantization
from shared.messages import Dtype
from shared.network.shape import LayerShape, NetworkShape
from shared.network.tensors import TensorSpec, layer_tensors, outer_tensors

WEIGHT_BYTES: dict[Dtype, int] = {"float32": 4, "bfloat16": 2}
SCALE_BYTES = 4
"""Of each row of an INT8 weight: LLM.int8() keeps its largest absolute value in float32."""


def parameters(network: NetworkShape) -> int:
    """Exact number of parameters (tied embeddings counted once)."""
    return outer_parameters(network) + sum(layer_parameters(network.family, layer) for layer in network.layers)


def outer_parameters(network: NetworkShape) -> int:
    """Parameters outside the layers."""
    return sum(spec.numbers for spec in outer_tensors(network))


@lru_cache(maxsize=4096)
def layer_parameters(family: str, layer: LayerShape) -> int:
    """Parameters of one layer."""
    return sum(spec.numbers for spec in layer_tensors(family, layer, 0))


def weight_bytes(network: NetworkShape, dtype: Dtype, quantization: Quantization) -> int:
    """Exact memory of a network's weights: with INT8, one byte for each weight of the layers' linear layers and a scale
    for each of their rows; everything else, biases included, in `dtype`."""
    layers = sum(layer_bytes(network.family, layer, dtype, quantization) for layer in network.layers)
    return WEIGHT_BYTES[dtype] * outer_parameters(network) + layers


@lru_cache(maxsize=4096)
def layer_bytes(family: str, layer: LayerShape, dtype: Dtype, quantization: Quantization) -> int:
    """Memory of one layer's weights."""
    return _bytes(layer_tensors(family, layer, 0), dtype, quantization)


def refitted_parameters(network: NetworkShape, mlp_widths: Iterable[int]) -> int:
    """Numbers of the down projections that a super-network has besides, refitted for each narrower width. Sub-networks
    have no more for them: each takes the place of one of theirs."""
    widths = sorted(set(mlp_widths))
    return sum(layer.outputs * width for layer in network.layers for width in widths if width < layer.mlp_width)


def cache_bytes(network: NetworkShape, dtype: Dtype, tokens: int = 1) -> int:
    """Exact memory of the keys and values that a network holds of so many tokens of one sequence, in `dtype`: what it
    takes beside its weights grows with the tokens that are served."""
    return sum(layer_cache_bytes(layer, dtype, tokens) for layer in network.layers)


def layer_cache_bytes(layer: LayerShape, dtype: Dtype, tokens: int) -> int:
    """Those of one layer, which needs no more than the tokens in its window."""
    if layer.attention is None:
        return 0
    return 2 * layer.attention.keys * WEIGHT_BYTES[dtype] * min(tokens, layer.attention.window or tokens)


def _bytes(specs: Iterable[TensorSpec], dtype: Dtype, quantization: Quantization) -> int:
    total = 0
    for spec in specs:
        if quantization == "int8" and spec.kind == "linear" and not spec.bias:
            total += spec.numbers + SCALE_BYTES * spec.rows
        else:
            total += WEIGHT_BYTES[dtype] * spec.numbers
    return total
