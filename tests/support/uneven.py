"""Networks whose layers differ in more than their MLPs' width, as checkpoints."""

import json
from pathlib import Path

from transformers import LlamaConfig

from shared.network.config import config_of
from shared.network.shape import AttentionShape, LayerShape, MlpShape, NetworkShape
from shared.supernet.saving import save_weights
from tests.support.checkpoints import SIZES, VOCABULARY, WINDOW, tiny_tokenizer
from tests.support.plain_network import random_weights

HIDDEN = 32


def attention(heads: int, kv_heads: int, head_dim: int = 8, bias: bool = False) -> AttentionShape:
    return AttentionShape(heads, kv_heads, head_dim, qkv_bias=bias, output_bias=bias)


def network(*layers: LayerShape, tied: bool = False) -> NetworkShape:
    return NetworkShape("llama", VOCABULARY, layers, tied)


UNEVEN: dict[str, NetworkShape] = {
    # Heads and widths layer by layer, as LLM-Pruner leaves them.
    "llm-pruner": network(
        LayerShape(HIDDEN, attention(4, 4), MlpShape(24)),
        LayerShape(HIDDEN, attention(3, 1), MlpShape(7)),
        LayerShape(HIDDEN, attention(2, 2), MlpShape(13)),
        LayerShape(HIDDEN, attention(4, 2, bias=True), MlpShape(24, bias=True)),
        tied=True,
    ),
    # The state shrinks and changes its basis from block to block, as SliceGPT has it.
    "slicegpt": network(
        LayerShape(24, attention(4, 2), MlpShape(24), attention_shortcut=28, mlp_shortcut=20),
        LayerShape(20, attention(4, 2), MlpShape(24), attention_shortcut=20, mlp_shortcut=17),
        LayerShape(17, attention(4, 4), MlpShape(9), attention_shortcut=30, mlp_shortcut=26),
        LayerShape(26, attention(4, 2), MlpShape(24)),
    ),
    "no-attention": network(
        LayerShape(HIDDEN, attention(4, 2), MlpShape(24)),
        LayerShape(HIDDEN, None, MlpShape(11)),
        LayerShape(HIDDEN, attention(1, 1, head_dim=12), MlpShape(24)),
    ),
    "attention-free-first-layer": network(
        LayerShape(HIDDEN, None, MlpShape(11)),
        LayerShape(HIDDEN, attention(4, 2), MlpShape(24)),
    ),
    # What a search that may skip any attention may come to.
    "no-attention-anywhere": network(
        LayerShape(HIDDEN, None, MlpShape(24)),
        LayerShape(HIDDEN, None, MlpShape(11)),
    ),
    "no-mlp": network(
        LayerShape(HIDDEN, attention(4, 2), None),
        LayerShape(HIDDEN, attention(4, 2), MlpShape(24)),
        LayerShape(HIDDEN, attention(2, 1), None),
    ),
    "all-of-it": network(
        LayerShape(20, attention(4, 2), None, attention_shortcut=16, mlp_shortcut=24),
        LayerShape(24, None, MlpShape(5), attention_shortcut=24, mlp_shortcut=18),
        LayerShape(18, AttentionShape(2, 1, 8, window=WINDOW), MlpShape(24)),
        LayerShape(18, None, None),
    ),
}


def write_uneven(directory: Path, name: str, seed: int = 0) -> NetworkShape:
    """Write one of `UNEVEN` with random weights and a tokenizer, and hand back what it is."""
    shape = UNEVEN[name]
    directory.mkdir(parents=True, exist_ok=True)
    base = LlamaConfig(**SIZES).to_dict()
    config = config_of(shape, base, range(len(shape.layers)))
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_weights(random_weights(shape, seed), directory)
    tiny_tokenizer().save_pretrained(directory)
    return shape
