"""Qwen3: norms of each head's queries and keys, and optional windows."""

from dataclasses import replace
from typing import Any

from shared.network.families.family import Config, Family, layer_types, sliding_window
from shared.network.shape import AttentionShape, NetworkShape


class Qwen3(Family):
    """`model_type: qwen3`."""

    model_type = "qwen3"

    def attention(self, config: Config, index: int) -> AttentionShape:
        bias = bool(config.get("attention_bias", False))
        window = sliding_window(config, index, windowed=index >= config.dimension("max_window_layers", 28, least=0))
        shape = super().attention(config, index)
        return replace(shape, qkv_bias=bias, output_bias=bias, qk_norm=True, window=window)

    def head_dim(self, config: Config) -> int:
        return 128

    def lists(self, network: NetworkShape) -> dict[str, list[Any]]:
        return layer_types(network)
