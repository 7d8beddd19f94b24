"""Which of llama.cpp's architectures computes what a network computes, and what stands in the way where none does.

llama.cpp makes the layers of most architectures alike, with a few optional parts; only `deci` (which NVIDIA's
Nemotron-NAS networks have) takes numbers of heads and widths layer by layer. What is said here was read in its source
and tried with the release that the tests use.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from shared.errors import UserError
from shared.network.families.family import SLIDING
from shared.network.shape import LayerShape, NetworkShape

PARTS: Mapping[str, Callable[[LayerShape], bool]] = {
    "normed queries": lambda layer: layer.attention is not None and layer.attention.qk_norm,
    "queries without a norm": lambda layer: layer.attention is not None and not layer.attention.qk_norm,
    "a window of attention": lambda layer: layer.attention is not None and layer.attention.window is not None,
    "no rotary embedding": lambda layer: layer.attention is not None and layer.attention.rotary is None,
    "biases of queries, keys and values": lambda layer: layer.attention is not None and layer.attention.qkv_bias,
    "a bias of attention's output": lambda layer: layer.attention is not None and layer.attention.output_bias,
    "biases of its MLP": lambda layer: layer.mlp is not None and layer.mlp.bias,
    "Gemma's attention": lambda layer: (
        layer.attention is not None and (layer.attention.post_norm or layer.attention.scale is not None)
    ),
    "Gemma's MLP": lambda layer: layer.mlp is not None and (layer.mlp.post_norm or layer.mlp.activation != "silu"),
}
"""What a layer may have, and not every architecture computes."""
GEMMA = ("Gemma's attention", "Gemma's MLP")
BIASES = ("biases of queries, keys and values", "a bias of attention's output", "biases of its MLP")
SPECIAL = (*GEMMA, "normed queries", "a window of attention", "no rotary embedding")

NOPE_EVERY, ALL_TOKENS_EVERY = 4, 6
"""Of how many layers one lacks the rotary embedding (SmolLM3), or looks at all tokens (Gemma 3): fixed in llama.cpp."""


@dataclass(frozen=True)
class Layout:
    """One of llama.cpp's architectures.

    `name`: what it calls it; `lacks`: those of `PARTS` that it doesn't compute; `layered`: whether layers may differ;
    `permuted`: whether its rotary embedding turns neighbouring numbers of a head instead of those half a head apart;
    `frequencies`: whether it takes a factor for each frequency of the rotary embedding; `unlike`: says what breaks the
    rule that its layers follow.
    """

    name: str
    lacks: tuple[str, ...]
    layered: bool = False
    permuted: bool = False
    frequencies: bool = False
    unlike: Callable[[tuple[LayerShape, ...]], str | None] = lambda _: None


def _unlike_smollm3(layers: tuple[LayerShape, ...]) -> str | None:
    for number, layer in enumerate(layers, start=1):
        turned = layer.attention is not None and layer.attention.rotary is not None
        if turned != bool(number % NOPE_EVERY):
            has = "has" if turned else "lacks"
            return f"its layer {number} {has} a rotary embedding, which every fourth layer lacks there, and no other"
    return None


def _unlike_gemma3(layers: tuple[LayerShape, ...]) -> str | None:
    attentions = [layer.attention for layer in layers if layer.attention is not None]
    for number, attention in enumerate(attentions, start=1):
        if attention.scale is None or abs(attention.scale * attention.head_dim**0.5 - 1) > 1e-6:
            return f"its layer {number} scales scores by {attention.scale}, not by the root of its heads' size"
        local = attention.rotary == SLIDING
        if local != bool(number % ALL_TOKENS_EVERY) or local != (attention.window is not None):
            sees = "all tokens" if attention.window is None else "a window"
            return f"its layer {number} looks at {sees}; every sixth layer looks at all tokens there, and no other"
    if len({attention.window for attention in attentions} - {None}) > 1:
        return "its windows differ"
    return None


LLAMA = Layout("llama", SPECIAL, permuted=True, frequencies=True)
DECI = Layout("deci", SPECIAL, layered=True, permuted=True, frequencies=True)
LAYOUTS: Mapping[str, tuple[Layout, ...]] = {
    "llama": (LLAMA, DECI),
    "mistral": (LLAMA, DECI),
    "qwen2": (Layout("qwen2", (*SPECIAL, *BIASES[1:])), DECI),
    "qwen3": (Layout("qwen3", (*GEMMA, *BIASES, *SPECIAL[3:], "queries without a norm")), DECI),
    "smollm3": (Layout("smollm3", (*SPECIAL[:4], *BIASES), permuted=True, unlike=_unlike_smollm3), LLAMA, DECI),
    "gemma3_text": (
        Layout("gemma3", (*BIASES, "no rotary embedding", "queries without a norm"), unlike=_unlike_gemma3),
        DECI,
    ),
}
"""Those to try for a family, one after the other, `deci` last."""


def computing(network: NetworkShape) -> tuple[LayerShape, ...]:
    """The layers that compute anything: one without attention and MLP hands on its state, and isn't written."""
    return tuple(layer for layer in network.layers if layer.attention or layer.mlp)


def layout_of(network: NetworkShape) -> Layout:
    """The architecture that a network is written as. Raises UserError, naming what of it llama.cpp can't compute."""
    obstacles = {}
    for layout in LAYOUTS[network.family]:
        obstacle = next(_in_the_way(layout, network), None)
        if obstacle is None:
            return layout
        obstacles[layout.name] = obstacle
    # Where layers are alike, the family's own architecture should have held it; else the one for layers that differ.
    name = next(iter(obstacles)) if _alike(network) else DECI.name
    raise UserError(
        f"llama.cpp's architecture {name} can't hold this network: {obstacles[name]}; choose another format"
    )


def _in_the_way(layout: Layout, network: NetworkShape) -> Iterator[str]:
    layers = computing(network)
    if not all(layer.keeps_state for layer in network.layers):
        yield "its states change their basis from layer to layer (SliceGPT)"
    if not layers:
        yield "none of its layers computes anything"
    elif layers[0].attention is None:
        yield "its first layer has no attention"
    if not layout.layered and not _alike(network):
        yield "its layers differ"
    sizes = {layer.attention.head_dim for layer in layers if layer.attention is not None}
    if len(sizes) > 1:
        yield f"its layers have heads of {min(sizes)} and of {max(sizes)} numbers"
    for part in layout.lacks:
        for index, layer in enumerate(network.layers):
            if PARTS[part](layer):
                yield f"its layer {index + 1} has {part}"
    unlike = layout.unlike(layers)
    if unlike is not None:
        yield unlike


def _alike(network: NetworkShape) -> bool:
    """Whether the layers that compute anything have the same sizes, and both attention and MLP."""
    sizes = {
        None if layer.attention is None else (layer.attention.heads, layer.attention.kv_heads, layer.mlp_width)
        for layer in computing(network)
    }
    return len(sizes) == 1 and all(layer.attention and layer.mlp for layer in computing(network))
