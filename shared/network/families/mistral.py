"""Mistral: Llama with a window in every layer."""

from dataclasses import replace

from shared.network.families.family import Config, Family
from shared.network.shape import AttentionShape


class Mistral(Family):
    """`model_type: mistral`."""

    model_type = "mistral"

    def attention(self, config: Config, index: int) -> AttentionShape:
        return replace(super().attention(config, index), window=config.window(4096))
