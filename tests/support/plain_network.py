"""What any network computes, written down as plainly as it can be: one sequence, float64, no view, no cache, no kernel.

The reference for networks that transformers has no class for. It shares nothing with the decoder but the description of
the network.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from shared.network.families import Arithmetic
from shared.network.shape import AttentionShape, LayerShape, NetworkShape
from shared.network.tensors import layer_tensors, tensors

Weights = Mapping[str, Tensor]


def random_weights(network: NetworkShape, seed: int = 0) -> dict[str, Tensor]:
    """Weights in float32 with which every part matters."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for spec in tensors(network):
        noise = torch.randn(spec.size, generator=generator)
        if spec.bias:
            made[spec.name] = 0.5 * noise
        elif spec.columns is None:
            made[spec.name] = 1 + 0.3 * noise
        else:
            made[spec.name] = noise * 1.2 / spec.columns**0.5
    return made


@torch.inference_mode()
def plain_logits(
    network: NetworkShape, weights: Weights, arithmetic: Arithmetic, theta: float, tokens: Sequence[int]
) -> Tensor:
    """Logits (tokens, vocabulary) of a Llama-like network of any layers, in float64."""
    weights = {name: tensor.double() for name, tensor in weights.items()}
    embeddings = weights["model.embed_tokens.weight"]
    state = embeddings[list(tokens)]
    for index, layer in enumerate(network.layers):
        parts = {(spec.part, spec.bias): weights[spec.name] for spec in layer_tensors(network.family, layer, index)}
        state = _layer(layer, parts, arithmetic.norm_epsilon, theta, state)
    state = _normed(state, weights["model.norm.weight"], arithmetic.norm_epsilon)
    return state @ (embeddings if network.tied_embeddings else weights["lm_head.weight"]).T


def _layer(
    layer: LayerShape, parts: Mapping[tuple[str, bool], Tensor], epsilon: float, theta: float, state: Tensor
) -> Tensor:
    def linear(part: str, inputs: Tensor) -> Tensor:
        return inputs @ parts[part, False].T + parts.get((part, True), torch.zeros(1, dtype=torch.float64))

    added = None
    if layer.attention is not None:
        inner = _normed(state, parts["attention.norm", False], epsilon)
        queries, keys, values = (linear(f"attention.{part}", inner) for part in ("query", "key", "value"))
        added = linear("attention.output", _attention(layer.attention, queries, keys, values, theta))
    if layer.attention_shortcut is not None:
        state = state @ parts["attention_shortcut", False].T
    state = state if added is None else state + added
    added = None
    if layer.mlp is not None:
        inner = _normed(state, parts["mlp.norm", False], epsilon)
        gate = linear("mlp.gate", inner)
        added = linear("mlp.down", gate * torch.sigmoid(gate) * linear("mlp.up", inner))
    if layer.mlp_shortcut is not None:
        state = state @ parts["mlp_shortcut", False].T
    return state if added is None else state + added


def _attention(shape: AttentionShape, queries: Tensor, keys: Tensor, values: Tensor, theta: float) -> Tensor:
    length, share = len(queries), shape.heads // shape.kv_heads
    outputs = []
    for head in range(shape.heads):
        own = slice(head * shape.head_dim, (head + 1) * shape.head_dim)
        shared = slice(head // share * shape.head_dim, (head // share + 1) * shape.head_dim)
        query, key = _turned(queries[:, own], theta), _turned(keys[:, shared], theta)
        scores = query @ key.T / math.sqrt(shape.head_dim)
        seen = torch.ones(length, length, dtype=torch.bool).tril()
        if shape.window is not None:
            seen = seen.triu(1 - shape.window)
        outputs.append(scores.masked_fill(~seen, -math.inf).softmax(-1) @ values[:, shared])
    return torch.cat(outputs, dim=-1)


def _turned(heads: Tensor, theta: float) -> Tensor:
    """Rotary embedding: each pair of numbers, half a head apart, turned by its position times its frequency."""
    length, size = heads.shape
    frequencies = theta ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    turned = torch.polar(torch.ones(length, size // 2).double(), torch.arange(length)[:, None] * frequencies)
    pairs = torch.complex(heads[:, : size // 2], heads[:, size // 2 :]) * turned
    return torch.cat((pairs.real, pairs.imag), dim=-1)


def _normed(state: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return state / (state.square().mean(-1, keepdim=True) + epsilon).sqrt() * weight
