"""Tiny random checkpoints of every supported family, and their sub-networks as transformers computes them."""

import copy
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from torch import Tensor, nn
from transformers import (
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from shared import facts
from shared.architecture import Architecture

torch.set_num_threads(1)  # the networks are so small that a second thread only waits

LAYERS = 5
WIDTH = 24
WINDOW = 5
VOCABULARY = 800

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN_ROPE = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}
GEMMA_ROPE = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}
ALTERNATING = ["sliding_attention" if layer % 2 else "full_attention" for layer in range(LAYERS)]

FAMILIES: dict[str, tuple[type[PretrainedConfig], dict[str, Any]]] = {
    "llama": (LlamaConfig, {"num_key_value_heads": 4}),
    "llama-grouped-tied": (LlamaConfig, {"tie_word_embeddings": True}),
    "llama-biases": (LlamaConfig, {"attention_bias": True, "mlp_bias": True}),
    "llama-head-dim": (LlamaConfig, {"head_dim": 12}),
    "llama3-rope": (LlamaConfig, {"rope_parameters": LLAMA3_ROPE}),
    "llama-yarn-rope": (LlamaConfig, {"rope_parameters": YARN_ROPE}),
    "mistral": (MistralConfig, {"sliding_window": None}),
    "mistral-window": (MistralConfig, {"sliding_window": WINDOW, "num_key_value_heads": 1}),
    "qwen2": (Qwen2Config, {"sliding_window": WINDOW}),  # ignored without use_sliding_window
    "qwen2-window": (
        Qwen2Config,
        {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2, "tie_word_embeddings": True},
    ),
    "qwen3": (Qwen3Config, {"head_dim": 12, "tie_word_embeddings": True}),
    "qwen3-window": (
        Qwen3Config,
        {
            "head_dim": 8,
            "attention_bias": True,
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "layer_types": ALTERNATING,
            "num_key_value_heads": 4,
        },
    ),
    "smollm3": (SmolLM3Config, {"no_rope_layer_interval": 2, "tie_word_embeddings": True}),
    "smollm3-window": (
        SmolLM3Config,
        {
            "no_rope_layers": [1, 0, 0, 1, 1],
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "mlp_bias": True,
            "tie_word_embeddings": False,
        },
    ),
    "gemma3": (
        Gemma3TextConfig,
        {
            "head_dim": 12,
            "query_pre_attn_scalar": 20,
            "sliding_window": WINDOW,
            "layer_types": ALTERNATING,
            "rope_parameters": GEMMA_ROPE,
            "tie_word_embeddings": True,
        },
    ),
    "gemma3-biases": (
        Gemma3TextConfig,
        {"head_dim": 8, "query_pre_attn_scalar": 8, "attention_bias": True, "tie_word_embeddings": False},
    ),
}
"""Every way in which the supported families' layers differ."""


def random_model(family: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A network of one of `FAMILIES` in which every weight, bias and norm matters."""
    config_class, settings = FAMILIES[family]
    config = config_class(**{**SIZES, **settings, **changes})
    model: PreTrainedModel = MODEL_FOR_CAUSAL_LM_MAPPING[config_class](config)
    generator = torch.Generator().manual_seed(seed)
    neutral = 0 if config_class is Gemma3TextConfig else 1  # of a norm
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("bias"):
                parameter.copy_(0.5 * noise)
            elif parameter.dim() == 1:
                parameter.copy_(neutral + 0.3 * noise)
            else:
                parameter.copy_(noise * 1.2 / parameter.shape[1] ** 0.5)
    return model.eval()


def write_checkpoint(
    directory: Path, family: str, seed: int = 0, max_shard_size: str = "1GB", **changes: Any
) -> PreTrainedModel:
    """Write a random network with a tokenizer as a Hugging Face checkpoint directory, and hand it back."""
    model = random_model(family, seed, **changes)
    model.save_pretrained(directory, max_shard_size=max_shard_size)
    tiny_tokenizer().save_pretrained(directory)
    return model


@cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that knows the words of the built-in facts."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"{row['instruction']} {row['output']}" for row in facts.instructions()], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def copied_subnet(model: PreTrainedModel, architecture: Architecture) -> PreTrainedModel:
    """The sub-network as an ordinary transformers network of copied slices: the reference for what is cut as views."""
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = architecture.depth
    for key in ("layer_types", "no_rope_layers"):
        if getattr(config, key, None) is not None:
            setattr(config, key, [getattr(config, key)[layer] for layer in architecture.layers])
    subnet = type(model)(config)
    own, given = subnet.state_dict(), model.state_dict()
    for name in own:
        if not name.startswith("model.layers."):
            own[name] = given[name].clone()
    subnet.load_state_dict(own)
    for new, (old, width) in enumerate(zip(architecture.layers, architecture.mlp_widths, strict=True)):
        layer, source = subnet.model.layers[new], model.model.layers[old]
        for name in ("gate_proj", "up_proj", "down_proj"):
            rows, columns = (None, width) if name == "down_proj" else (width, None)
            setattr(layer.mlp, name, _sliced(getattr(source.mlp, name), rows, columns))
        layer.load_state_dict(
            {name: tensor for name, tensor in source.state_dict().items() if not name.startswith("mlp.")}, strict=False
        )
    return subnet.eval()


def _sliced(linear: nn.Linear, rows: int | None, columns: int | None) -> nn.Linear:
    weight = linear.weight.detach()[:rows, :columns].clone()
    copied = nn.Linear(weight.shape[1], weight.shape[0], bias=linear.bias is not None)
    with torch.no_grad():
        copied.weight.copy_(weight)
        if linear.bias is not None:
            copied.bias.copy_(linear.bias[:rows])
    return copied


@torch.inference_mode()
def logits_one_by_one(model: PreTrainedModel, sequences: Sequence[Sequence[int]]) -> list[Tensor]:
    """transformers' own logits of each sequence, which is alone in its batch."""
    return [model(torch.tensor([list(sequence)])).logits[0] for sequence in sequences]


def random_sequences(*lengths: int, seed: int = 0, vocabulary: int = VOCABULARY) -> list[list[int]]:
    """Sequences of random tokens."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(vocabulary, (length,), generator=generator).tolist() for length in lengths]
