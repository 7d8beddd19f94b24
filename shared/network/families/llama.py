"""Llama 1 to 3, SmolLM and SmolLM2: biases are optional."""

from dataclasses import replace

from shared.network.families.family import Config, Family
from shared.network.shape import AttentionShape, MlpShape


class Llama(Family):
    """`model_type: llama`."""

    model_type = "llama"

    def attention(self, config: Config, index: int) -> AttentionShape:
        bias = bool(config.get("attention_bias", False))
        return replace(super().attention(config, index), qkv_bias=bias, output_bias=bias)

    def mlp(self, config: Config) -> MlpShape:
        return replace(super().mlp(config), bias=bool(config.get("mlp_bias", False)))
