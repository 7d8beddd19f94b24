"""A network of any family of which each layer may be another, for vLLM.

Its config is the family's, with `family` and `layers` (see `shared.network.config`) beside it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from vllm.config import VllmConfig
from vllm.distributed import get_pp_group, get_tensor_model_parallel_world_size
from vllm.model_executor.layers.activation import get_act_and_mul_fn
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.layernorm import GemmaRMSNorm, RMSNorm
from vllm.model_executor.layers.linear import (
    MergedColumnParallelLinear,
    QKVParallelLinear,
    ReplicatedLinear,
    RowParallelLinear,
)
from vllm.model_executor.layers.rotary_embedding import get_rope
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from vllm.model_executor.models.llama import LlamaForCausalLM, LlamaModel
from vllm.model_executor.models.utils import extract_layer_index, maybe_prefix

from shared.network.families import Arithmetic, family_of
from shared.network.shape import AttentionShape, LayerShape, MlpShape, layers_from_json

ACTIVATIONS = {"silu": "silu", "gelu_tanh": "gelu_pytorch_tanh"}
"""What vLLM calls them."""


class ShapedAttention(nn.Module):
    """One layer's attention."""

    def __init__(
        self, vllm_config: VllmConfig, arithmetic: Arithmetic, layer: LayerShape, shape: AttentionShape, prefix: str
    ) -> None:
        super().__init__()
        self.shape, quantised = shape, vllm_config.quant_config
        self.qkv_proj = QKVParallelLinear(
            hidden_size=layer.hidden,
            head_size=shape.head_dim,
            total_num_heads=shape.heads,
            total_num_kv_heads=shape.kv_heads,
            bias=shape.qkv_bias,
            quant_config=quantised,
            prefix=f"{prefix}.qkv_proj",
        )
        self.o_proj = RowParallelLinear(
            input_size=shape.queries,
            output_size=layer.between,
            bias=shape.output_bias,
            quant_config=quantised,
            prefix=f"{prefix}.o_proj",
        )
        if shape.qk_norm:
            self.q_norm = _norm(arithmetic, shape.head_dim)
            self.k_norm = _norm(arithmetic, shape.head_dim)
        ranks = get_tensor_model_parallel_world_size()
        heads, kv_heads = shape.heads // ranks, max(1, shape.kv_heads // ranks)
        self.sizes = [heads * shape.head_dim, kv_heads * shape.head_dim, kv_heads * shape.head_dim]
        if shape.rotary is not None:
            self.rotary_emb = get_rope(
                shape.head_dim,
                max_position=vllm_config.model_config.hf_config.max_position_embeddings,
                rope_parameters=dict(arithmetic.rotaries[shape.rotary]),
            )
        self.attn = Attention(
            heads,
            shape.head_dim,
            shape.head_dim**-0.5 if shape.scale is None else shape.scale,
            num_kv_heads=kv_heads,
            cache_config=vllm_config.cache_config,
            quant_config=quantised,
            per_layer_sliding_window=shape.window,
            prefix=f"{prefix}.attn",
        )

    def forward(self, positions: Tensor, states: Tensor) -> Tensor:
        """Positions (T,) and normed states (T, hidden) of all sequences' tokens, one after another; returns (T, size of
        the state after it)."""
        queries, keys, values = self.qkv_proj(states)[0].split(self.sizes, dim=-1)
        if self.shape.qk_norm:
            queries = self.q_norm(queries.unflatten(-1, (-1, self.shape.head_dim))).flatten(-2)
            keys = self.k_norm(keys.unflatten(-1, (-1, self.shape.head_dim))).flatten(-2)
        if self.shape.rotary is not None:
            queries, keys = self.rotary_emb(positions, queries, keys)
        output: Tensor = self.o_proj(self.attn(queries, keys, values))[0]
        return output


class ShapedMlp(nn.Module):
    """One layer's MLP, of its own width."""

    def __init__(self, vllm_config: VllmConfig, layer: LayerShape, shape: MlpShape, prefix: str) -> None:
        super().__init__()
        self.gate_up_proj = MergedColumnParallelLinear(
            input_size=layer.between,
            output_sizes=[shape.width] * 2,
            bias=shape.bias,
            quant_config=vllm_config.quant_config,
            prefix=f"{prefix}.gate_up_proj",
        )
        self.down_proj = RowParallelLinear(
            input_size=shape.width,
            output_size=layer.outputs,
            bias=shape.bias,
            quant_config=vllm_config.quant_config,
            prefix=f"{prefix}.down_proj",
        )
        self.activation = get_act_and_mul_fn(ACTIVATIONS[shape.activation])

    def forward(self, states: Tensor) -> Tensor:
        """Normed states (T, size before it); returns (T, size of the state after it)."""
        output: Tensor = self.down_proj(self.activation(self.gate_up_proj(states)[0]))[0]
        return output


class ShapedLayer(nn.Module):
    """A layer as `layers` describes it at its place. Its tensors have the names of its family's checkpoints.

    As everywhere in vLLM, the state is a sum of two tensors, what the last block added and what was there before: norms
    add them up.
    """

    def __init__(self, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        config = vllm_config.model_config.hf_config
        (layer,) = layers_from_json([config.layers[extract_layer_index(prefix)]], "config.json")
        arithmetic, self.names = _arithmetic(config), family_of(config.family).names
        self.self_attn: nn.Module | None = None
        self.mlp: nn.Module | None = None
        if layer.attention is not None:
            self.self_attn = ShapedAttention(vllm_config, arithmetic, layer, layer.attention, f"{prefix}.self_attn")
            self._add_norm("attention.norm", arithmetic, layer.hidden)
            if layer.attention.post_norm:
                self._add_norm("attention.post_norm", arithmetic, layer.between)
        if layer.mlp is not None:
            self.mlp = ShapedMlp(vllm_config, layer, layer.mlp, f"{prefix}.mlp")
            self._add_norm("mlp.norm", arithmetic, layer.between)
            if layer.mlp.post_norm:
                self._add_norm("mlp.post_norm", arithmetic, layer.outputs)
        self.shape = layer
        if layer.attention_shortcut is not None:
            self.self_attn = self.self_attn or nn.Module()
            self.self_attn.shortcut = _shortcut(layer.hidden, layer.between, f"{prefix}.self_attn.shortcut")
        if layer.mlp_shortcut is not None:
            self.mlp = self.mlp or nn.Module()
            self.mlp.shortcut = _shortcut(layer.between, layer.outputs, f"{prefix}.mlp.shortcut")

    def forward(self, positions: Tensor, added: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """What was added (T, hidden) to a state (T, hidden), None before the first block; returns the same after the
        layer."""
        shape = self.shape
        if shape.attention is None:
            added, state = (torch.zeros_like(added), added) if state is None else (added, state)
        else:
            normed, state = self._normed("attention.norm", added, state)
            added = self._post_normed("attention.post_norm", self.self_attn(positions, normed))  # type: ignore[misc]
        if shape.attention_shortcut is not None:
            added, state = _through(self.self_attn, shape.attention is not None, added, state)
        if shape.mlp is not None:
            normed, state = self._normed("mlp.norm", added, state)
            added = self._post_normed("mlp.post_norm", self.mlp(normed))  # type: ignore[misc]
        if shape.mlp_shortcut is not None:
            added, state = _through(self.mlp, shape.mlp is not None, added, state)
        return added, state

    def _add_norm(self, part: str, arithmetic: Arithmetic, size: int) -> None:
        self.add_module(self.names[part], _norm(arithmetic, size))

    def _normed(self, part: str, added: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """The normed state, and the state."""
        norm: Callable[..., Any] = getattr(self, self.names[part])
        if state is None:
            return norm(added), added
        normed, summed = norm(added, state)
        return normed, summed

    def _post_normed(self, part: str, added: Tensor) -> Tensor:
        name = self.names.get(part)
        norm = None if name is None else getattr(self, name)
        return added if norm is None else norm(added)


class NasfarmModel(LlamaModel):
    """Embeddings, layers and last norm."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "", layer_type: type[nn.Module] = ShapedLayer) -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix, layer_type=layer_type)
        config, arithmetic = self.config, _arithmetic(self.config)
        layers = layers_from_json(config.layers, "config.json")
        sizes = {layer.hidden for layer in layers} | {layers[-1].outputs}
        if len(sizes) > 1 and get_pp_group().world_size > 1:
            raise ValueError("the state's size changes on the way through this network: no pipeline parallelism")
        if layers[0].hidden != config.hidden_size:
            self.embed_tokens = VocabParallelEmbedding(
                config.vocab_size, layers[0].hidden, quant_config=self.quant_config
            )
        if get_pp_group().is_last_rank:
            self.norm = _norm(arithmetic, layers[-1].outputs)
        self.embedding_scale = arithmetic.embedding_scale

    def embed_input_ids(self, input_ids: Tensor) -> Tensor:
        """Embeddings (T, hidden) of tokens (T,)."""
        embedded: Tensor = self.embed_tokens(input_ids)
        if self.embedding_scale == 1:
            return embedded
        # The scale is rounded as the weights are, since transformers does so.
        return embedded * torch.tensor(self.embedding_scale, dtype=embedded.dtype, device=embedded.device)


class NasfarmForCausalLM(LlamaForCausalLM):
    """A whole network, as vLLM runs it: loaded from a checkpoint of its own, or cut out of a super-network."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix, layer_type=ShapedLayer)
        config = self.config
        outputs = layers_from_json(config.layers, "config.json")[-1].outputs
        if get_pp_group().is_last_rank and outputs != config.hidden_size:
            self.lm_head = ParallelLMHead(
                config.vocab_size,
                outputs,
                quant_config=vllm_config.quant_config,
                prefix=maybe_prefix(prefix, "lm_head"),
            )
            if config.tie_word_embeddings:
                self.lm_head = self.lm_head.tie_weights(self.model.embed_tokens)

    def _init_model(self, vllm_config: VllmConfig, prefix: str = "", layer_type: type[nn.Module] = ShapedLayer) -> Any:
        return NasfarmModel(vllm_config=vllm_config, prefix=prefix, layer_type=layer_type)


def _arithmetic(config: Any) -> Arithmetic:
    return family_of(config.family).arithmetic(config)


def _norm(arithmetic: Arithmetic, size: int) -> nn.Module:
    made: nn.Module = (GemmaRMSNorm if arithmetic.norm_offset else RMSNorm)(size, eps=arithmetic.norm_epsilon)
    return made


def _shortcut(inputs: int, outputs: int, prefix: str) -> nn.Module:
    made: nn.Module = ReplicatedLinear(inputs, outputs, bias=False, return_bias=False, prefix=prefix)
    return made


def _through(block: Any, computed: bool, added: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Lead the state through a block's shortcut, beside what the block added, if it did."""
    if computed:
        return added, block.shortcut(state)
    state = block.shortcut(added + state)
    return torch.zeros_like(state), state
