"""A network whose layers differ, for vLLM."""

import copy
from typing import Any

from torch import Tensor
from vllm.config import VllmConfig
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.models.llama import LlamaAttention, LlamaDecoderLayer, LlamaForCausalLM
from vllm.model_executor.models.utils import extract_layer_index


class NormedAttention(LlamaAttention):
    """Llama's attention with Qwen3's norms of each head's queries and keys."""

    def __init__(self, config: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(config, *arguments, **options)
        self.q_norm = RMSNorm(self.head_dim, eps=config.rms_norm_eps)
        self.k_norm = RMSNorm(self.head_dim, eps=config.rms_norm_eps)

    def forward(self, positions: Tensor, hidden_states: Tensor) -> Tensor:
        """Positions (T,) and states (T, hidden) of all sequences' tokens, one after another; returns (T, hidden)."""
        projected, _ = self.qkv_proj(hidden_states)
        queries, keys, values = projected.split([self.q_size, self.kv_size, self.kv_size], dim=-1)
        queries = self.q_norm(queries.unflatten(-1, (-1, self.head_dim))).flatten(-2)
        keys = self.k_norm(keys.unflatten(-1, (-1, self.head_dim))).flatten(-2)
        queries, keys = self.rotary_emb(positions, queries, keys)
        output: Tensor = self.o_proj(self.attn(queries, keys, values))[0]
        return output


class SubnetLayer(LlamaDecoderLayer):
    """A layer whose MLP is as wide as `intermediate_sizes` says at its place."""

    def __init__(self, vllm_config: VllmConfig, prefix: str = "") -> None:
        config = copy.copy(vllm_config.model_config.hf_config)
        config.intermediate_size = config.intermediate_sizes[extract_layer_index(prefix)]
        attention = NormedAttention if config.qk_norm else LlamaAttention
        super().__init__(vllm_config, prefix, config=config, attn_layer_type=attention)


class SubnetForCausalLM(LlamaForCausalLM):
    """A sub-network of any supported family: Mistral, Qwen2 and Qwen3 are Llama with windows, biases and norms.

    Its config is the family's, with `intermediate_sizes`, `layer_types`, `sliding_window`, `qkv_bias` and `qk_norm`
    beside it (`attention_bias` is then that of the output projection alone).
    """

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix, layer_type=SubnetLayer)
