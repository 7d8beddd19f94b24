"""Qwen2 and Qwen2.5: biases of queries, keys and values, and optional windows."""

from dataclasses import replace

from shared.network.families.family import Config, Family, sliding_window
from shared.network.shape import AttentionShape


class Qwen2(Family):
    """`model_type: qwen2`."""

    model_type = "qwen2"

    def attention(self, config: Config, index: int) -> AttentionShape:
        window = sliding_window(config, index, windowed=index >= config.get("max_window_layers", 28))
        return replace(super().attention(config, index), qkv_bias=True, window=window)
