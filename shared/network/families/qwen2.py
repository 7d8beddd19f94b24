"""Qwen2 and Qwen2.5: biases of queries, keys and values, and optional windows."""

from dataclasses import replace
from typing import Any

from shared.network.families.family import Config, Family, layer_types, sliding_window
from shared.network.shape import AttentionShape, NetworkShape


class Qwen2(Family):
    """`model_type: qwen2`."""

    model_type = "qwen2"

    def attention(self, config: Config, index: int) -> AttentionShape:
        window = sliding_window(config, index, windowed=index >= config.dimension("max_window_layers", 28, least=0))
        return replace(super().attention(config, index), qkv_bias=True, window=window)

    def lists(self, network: NetworkShape) -> dict[str, list[Any]]:
        return layer_types(network)
