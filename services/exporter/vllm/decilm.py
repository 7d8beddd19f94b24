"""The layout of vLLM's DeciLMForCausalLM (`model_type: nemotron-nas`): a Llama of which each layer has its own number
of key and value heads and its own MLP width, or lacks either block."""

from collections.abc import Iterator
from typing import Any

from transformers import PretrainedConfig

from shared.network.shape import AttentionShape, LayerShape, MlpShape, NetworkShape

FAMILIES = ("llama", "mistral", "qwen2")
"""Those that compute what Llama computes, with biases or without."""
COMMON = (
    "vocab_size",
    "hidden_size",
    "num_attention_heads",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_parameters",
    "hidden_act",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)
"""What is taken from the family's config, which knows the family's own defaults."""


def obstacle(network: NetworkShape) -> str | None:
    """What the layout can't hold of a network, if anything."""
    for index, layer in enumerate(network.layers):
        found = _layer_obstacle(layer)
        if found is not None:
            return f"{found} (layer {index})"
    if network.family not in FAMILIES:
        return f"what networks of the family {network.family} compute besides"
    if network.layers[0].attention is None:
        return "a first layer without attention"
    attentions, mlps = list(_attentions(network)), list(_mlps(network))
    for differing, values in (
        ("numbers of query heads", {one.heads for one in attentions}),
        ("sizes of heads", {one.head_dim for one in attentions}),
        ("biases of attention", {(one.qkv_bias, one.output_bias) for one in attentions}),
        ("biases of MLPs", {one.bias for one in mlps}),
    ):
        if len(values) > 1:
            return f"layers that differ in their {differing}"
    return None


def decilm_config(network: NetworkShape, config: PretrainedConfig) -> dict[str, Any]:
    """The `config.json` of a network that the layout holds; `config` is its family's, as transformers has it."""
    attention, mlps = next(_attentions(network)), list(_mlps(network))
    values = config.to_dict()
    return {key: values[key] for key in COMMON if key in values} | {
        "architectures": ["DeciLMForCausalLM"],
        "auto_map": {"AutoConfig": "configuration_decilm.DeciLMConfig"},
        "model_type": "nemotron-nas",
        "num_hidden_layers": network.depth,
        "num_attention_heads": attention.heads,
        "num_key_value_heads": attention.kv_heads,
        "head_dim": attention.head_dim,
        "intermediate_size": max(network.mlp_widths),
        "qkv_bias": attention.qkv_bias,
        "attention_bias": attention.output_bias,
        "mlp_bias": any(mlp.bias for mlp in mlps),
        "tie_word_embeddings": network.tied_embeddings,
        "block_configs": [_block(layer) for layer in network.layers],
    }


def _layer_obstacle(layer: LayerShape) -> str | None:
    attention, mlp = layer.attention, layer.mlp
    if not layer.keeps_state:
        return "SliceGPT's shortcuts"
    if attention is not None and attention.qk_norm:
        return "norms of queries and keys"
    if attention is not None and attention.window is not None:
        return "attention windows"
    if attention is not None and attention.rotary is None:
        return "attention without rotary embedding"
    if (attention is not None and attention.post_norm) or (mlp is not None and mlp.post_norm):
        return "norms after a block"
    return None


def _block(layer: LayerShape) -> dict[str, Any]:
    """What `block_configs` says of a layer. Without `ffn_mult`, which vLLM would round to multiples of 256."""
    attention, mlp = layer.attention, layer.mlp
    group = None if attention is None else attention.heads // attention.kv_heads
    return {
        "attention": {"no_op": attention is None, "n_heads_in_group": group},
        "ffn": {"no_op": mlp is None, "intermediate_size": None if mlp is None else mlp.width},
    }


def _attentions(network: NetworkShape) -> Iterator[AttentionShape]:
    return (layer.attention for layer in network.layers if layer.attention is not None)


def _mlps(network: NetworkShape) -> Iterator[MlpShape]:
    return (layer.mlp for layer in network.layers if layer.mlp is not None)
