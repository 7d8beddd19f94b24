"""A sub-network's weights, for vLLM."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor
from vllm.config import ModelConfig
from vllm.model_executor.model_loader.base_loader import BaseModelLoader

from shared.architecture import Architecture
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder


class SupernetLoader(BaseModelLoader):
    """Cuts the weights out of the super-network where they are needed: nothing is written in between."""

    def download_model(self, model_config: ModelConfig) -> None:
        """Nothing to do: the checkpoint is a directory."""

    def load_weights(self, model: Any, model_config: ModelConfig) -> None:
        """Load those of the architecture that `model_loader_extra_config` holds."""
        architecture = Architecture.model_validate(self.load_config.model_loader_extra_config)
        model.load_weights(named_weights(Checkpoint.open(Path(model_config.model)).cut(architecture)))


def named_weights(network: Decoder) -> Iterator[tuple[str, Tensor]]:
    """The weights of a network under the names that its own Hugging Face checkpoint would give them."""
    yield "model.embed_tokens.weight", network.embeddings
    yield "model.norm.weight", network.norm
    if network.head is not network.embeddings:
        yield "lm_head.weight", network.head
    for index, layer in enumerate(network.layers):
        prefix = f"model.layers.{index}."
        yield f"{prefix}input_layernorm.weight", layer.attention_norm
        yield f"{prefix}post_attention_layernorm.weight", layer.mlp_norm
        if layer.query_norm is not None and layer.key_norm is not None:
            yield f"{prefix}self_attn.q_norm.weight", layer.query_norm
            yield f"{prefix}self_attn.k_norm.weight", layer.key_norm
        for name, projection in {
            "self_attn.q_proj": layer.query,
            "self_attn.k_proj": layer.key,
            "self_attn.v_proj": layer.value,
            "self_attn.o_proj": layer.output,
            "mlp.gate_proj": layer.gate,
            "mlp.up_proj": layer.up,
            "mlp.down_proj": layer.down,
        }.items():
            yield f"{prefix}{name}.weight", projection.weight
            if projection.bias is not None:
                yield f"{prefix}{name}.bias", projection.bias
