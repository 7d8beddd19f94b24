"""SmolLM3: Llama in which every few layers lack the rotary embedding (NoPE, arXiv 2501.18795), and may have a window
there instead."""

from dataclasses import replace

from shared.network.families.family import Config, sliding_window
from shared.network.families.llama import Llama
from shared.network.shape import AttentionShape


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
