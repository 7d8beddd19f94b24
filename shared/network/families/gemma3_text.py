"""Gemma 3 as it reads text (arXiv 2503.19786): norms before and after both blocks, whose weights count from one, GeGLU,
scaled embeddings, normed queries and keys, and windows in most layers, which have a rotary embedding of their own."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from shared.errors import UserError
from shared.network.families.family import FULL, LLAMA_NAMES, SLIDING, Arithmetic, Config, Family
from shared.network.shape import AttentionShape, MlpShape, NetworkShape


class Gemma3Text(Family):
    """`model_type: gemma3_text`."""

    model_type = "gemma3_text"
    rotaries = (SLIDING, FULL)
    tied_by_default = True
    turnable = False
    activation_key = "hidden_activation"
    activation = "gelu_pytorch_tanh"
    names: ClassVar[Mapping[str, str]] = {
        **LLAMA_NAMES,
        "attention.post_norm": "post_attention_layernorm",
        "mlp.norm": "pre_feedforward_layernorm",
        "mlp.post_norm": "post_feedforward_layernorm",
    }

    def check(self, config: Config) -> None:
        super().check(config)
        for key in ("attn_logit_softcapping", "final_logit_softcapping", "use_bidirectional_attention"):
            if config.get(key):
                raise UserError(f"{config.where}: {key} is not supported; use a Gemma 3 model that doesn't set it")

    def attention(self, config: Config, index: int) -> AttentionShape:
        kind = config.listed("layer_types", index)
        if kind is None:
            kind = SLIDING if (index + 1) % config.dimension("sliding_window_pattern", 6) else FULL
        bias = bool(config.get("attention_bias", False))
        return replace(
            super().attention(config, index),
            qkv_bias=bias,
            output_bias=bias,
            qk_norm=True,
            post_norm=True,
            window=config.window(4096) if kind == SLIDING else None,
            rotary=kind,
            scale=config.dimension("query_pre_attn_scalar", 256) ** -0.5,
        )

    def head_dim(self, config: Config) -> int:
        return 256

    def mlp(self, config: Config) -> MlpShape:
        return replace(super().mlp(config), post_norm=True)

    def arithmetic(self, config: Any) -> Arithmetic:
        return Arithmetic(
            norm_epsilon=config.rms_norm_eps,
            norm_offset=1.0,
            embedding_scale=config.hidden_size**0.5,
            rotaries={kind: config.rope_parameters[kind] for kind in self.rotaries},
        )

    def lists(self, network: NetworkShape) -> dict[str, list[Any]]:
        # Not by windows: a layer of either kind may see all, and each kind has a rotary embedding of its own.
        return {"layer_types": [layer.attention.rotary if layer.attention else FULL for layer in network.layers]}
