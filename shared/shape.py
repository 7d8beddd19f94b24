"""The shape of a Llama-like decoder: everything about a model that decides how many parameters a sub-network has."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from shared.errors import UserError
from shared.text import shown

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
MOST_LAYERS = 10_000


@dataclass(frozen=True)
class ModelShape:
    """Dimensions of a decoder of one of `FAMILIES`, as its `config.json` states them."""

    family: str
    vocab_size: int
    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    tied_embeddings: bool
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any], where: str = "config.json") -> Self:
        """Read the shape from the parsed `config.json` of a Hugging Face checkpoint.

        Raises UserError for a family that isn't supported and for missing or impossible dimensions; `where` names the
        file in the message.
        """
        family = config.get("model_type")
        if family not in FAMILIES:
            raise UserError(
                f"{where}: model_type {shown(family)} is not supported; use a model of one of the families "
                f"{', '.join(FAMILIES)}"
            )
        if config.get("quantization_config"):
            raise UserError(f"{where}: the weights are quantised; give the checkpoint before quantisation")
        if config.get("hidden_act", "silu") != "silu":
            raise UserError(f"{where}: hidden_act {shown(config['hidden_act'])} is not supported; only 'silu' is")
        hidden_size = _dimension(config, "hidden_size", where)
        heads = _dimension(config, "num_attention_heads", where)
        attention_bias = bool(config.get("attention_bias", False))
        return cls(
            family=family,
            vocab_size=_dimension(config, "vocab_size", where),
            hidden_size=hidden_size,
            layers=_dimension(config, "num_hidden_layers", where, most=MOST_LAYERS),
            heads=heads,
            kv_heads=_dimension(config, "num_key_value_heads", where, default=heads),
            head_dim=_dimension(config, "head_dim", where, default=128 if family == "qwen3" else hidden_size // heads),
            mlp_width=_dimension(config, "intermediate_size", where),
            tied_embeddings=bool(config.get("tie_word_embeddings", False)),
            qkv_bias=family == "qwen2" or attention_bias,
            output_bias=attention_bias and family in ("llama", "qwen3"),
            mlp_bias=family == "llama" and bool(config.get("mlp_bias", False)),
            qk_norm=family == "qwen3",
        )

    @property
    def attention_parameters(self) -> int:
        """Parameters of one layer without its MLP: attention and both norms."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        weights = self.hidden_size * (2 * queries + 2 * keys)
        biases = self.qkv_bias * (queries + 2 * keys) + self.output_bias * self.hidden_size
        return weights + biases + 2 * self.hidden_size + self.qk_norm * 2 * self.head_dim

    def mlp_parameters(self, width: int) -> int:
        """Parameters of one MLP with `width` neurons (gate, up and down)."""
        return 3 * self.hidden_size * width + self.mlp_bias * (2 * width + self.hidden_size)

    @property
    def embedding_parameters(self) -> int:
        """Parameters outside the layers: embeddings, language head, last norm."""
        return self.vocab_size * self.hidden_size * (1 if self.tied_embeddings else 2) + self.hidden_size


def _dimension(config: Mapping[str, Any], key: str, where: str, default: int | None = None, most: int = 2**31) -> int:
    value = config.get(key)
    if value is None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise UserError(
            f"{where}: {key} is {shown(value)}, not a whole number from 1 to {most}; is the checkpoint damaged?"
        )
    return value
