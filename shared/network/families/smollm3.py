"""SmolLM3: Llama in which every few layers lack the rotary embedding (NoPE, arXiv 2501.18795), and may have a window
there instead."""

from dataclasses import replace
from typing import Any

from shared.network.families.family import Config, layer_types, sliding_window
from shared.network.families.llama import Llama
from shared.network.shape import AttentionShape, NetworkShape


class SmolLM3(Llama):
    """`model_type: smollm3`."""

    model_type = "smollm3"
    tied_by_default = True

    def attention(self, config: Config, index: int) -> AttentionShape:
        turned = config.listed("no_rope_layers", index)  # 1 for layers that have it, whatever its name says
        if turned is None:
            turned = (index + 1) % config.dimension("no_rope_layer_interval", 4) != 0
        windowed = sliding_window(config, index, windowed=not turned, default=None)
        return replace(super().attention(config, index), rotary="default" if turned else None, window=windowed)

    def lists(self, network: NetworkShape) -> dict[str, list[Any]]:
        turned = [int(layer.attention is not None and layer.attention.rotary is not None) for layer in network.layers]
        return {**layer_types(network), "no_rope_layers": turned}
