"""What differs between model families: one adapter each, which reads `config.json` and names the tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from shared.errors import UserError
from shared.network.shape import MOST, Activation, AttentionShape, LayerShape, MlpShape, NetworkShape
from shared.text import shown

ACTIVATIONS: Mapping[str, Activation] = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
"""What a config calls them."""
SLIDING, FULL = "sliding_attention", "full_attention"
"""What a config's `layer_types` call attention with a window and without."""


@dataclass(frozen=True)
class Config:
    """The values of a `config.json`, and what to call that file."""

    values: Mapping[str, Any]
    where: str

    def get(self, key: str, default: Any = None) -> Any:
        """A value; the default where there is none, or null."""
        value = self.values.get(key)
        return default if value is None else value

    def dimension(self, key: str, default: int | None = None, least: int = 1, most: int = MOST) -> int:
        """A whole number. Raises UserError for anything else."""
        value = self.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            wrong = f"{key} is {shown(value)}, not a whole number from {least} to {most}"
            raise UserError(f"{self.where}: {wrong}; is the checkpoint damaged?")
        return value

    def listed(self, key: str, index: int) -> Any:
        """What a list with an entry for each layer says of a layer; None where there is no such list.

        Raises UserError where it is too short.
        """
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) <= index:
            raise UserError(f"{self.where}: {key} says nothing of layer {index}; is the checkpoint damaged?")
        return value[index]

    def window(self, default: int | None = None) -> int | None:
        """`sliding_window`, which may be null."""
        return self.dimension("sliding_window", default) if self.values.get("sliding_window", default) else None


@dataclass(frozen=True)
class Arithmetic:
    """What a network computes with besides its weights and its layers' shapes.

    `norm_offset` is added to the weights of norms, which are then applied in float32; `embedding_scale` multiplies
    embeddings; `rotaries` holds the parameters of each rotary embedding by name, as transformers' configs have them.
    """

    norm_epsilon: float
    norm_offset: float = 0.0
    embedding_scale: float = 1.0
    rotaries: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


LLAMA_NAMES: Mapping[str, str] = {
    "attention.norm": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm",
    "attention_shortcut": "self_attn.shortcut",
    "mlp.norm": "post_attention_layernorm",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
    "mlp_shortcut": "mlp.shortcut",
}


class Family:
    """A family of decoders. What this class says holds for Llama and whatever is computed like it; adapters say what
    differs."""

    model_type: ClassVar[str]
    """What `config.json` calls the family."""
    names: ClassVar[Mapping[str, str]] = LLAMA_NAMES
    """What checkpoints call the parts of a layer."""
    rotaries: ClassVar[tuple[str, ...]] = ("default",)
    """The names of its rotary embeddings."""
    tied_by_default: ClassVar[bool] = False
    """Whether embeddings are tied where a config doesn't say."""
    turnable: ClassVar[bool] = True
    """Whether states may be held in any basis (SliceGPT, arXiv 2401.15024): embeddings are the first state as they are,
    the weight of an RMSNorm goes into what follows, and nothing stands between a block's last linear layer and the
    state."""
    activation_key: ClassVar[str] = "hidden_act"
    activation: ClassVar[str] = "silu"
    """The one that its networks have, as configs call it, and under which key."""

    def check(self, config: Config) -> None:
        """Raise UserError for what networks of this family may do and nasfarm can't compute."""
        activation = config.get(self.activation_key, self.activation)
        if activation != self.activation:
            known = f"only {self.activation!r} is"
            raise UserError(f"{config.where}: {self.activation_key} {shown(activation)} is not supported; {known}")

    def check_layer(self, layer: LayerShape) -> None:
        """Raise UserError for a layer, whoever described it, that no network of this family has."""
        if layer.attention is not None and layer.attention.rotary not in (None, *self.rotaries):
            named = shown(layer.attention.rotary)
            raise UserError(f"attention.rotary: {named} is no rotary embedding of {self.model_type}: {self.rotaries}")
        for part, block in (("attention.post_norm", layer.attention), ("mlp.post_norm", layer.mlp)):
            if block is not None and block.post_norm and part not in self.names:
                raise UserError(f"{part}: networks of the family {self.model_type} have none")

    def lists(self, network: NetworkShape) -> dict[str, list[Any]]:
        """What a config says in lists with an entry for each layer, where it otherwise follows a rule."""
        return {}

    def layer(self, config: Config, index: int) -> LayerShape:
        """A layer, as a config whose values are those of this layer says. Raises UserError for impossible ones."""
        return LayerShape(
            hidden=config.dimension("hidden_size"),
            attention=self.attention(config, index),
            mlp=self.mlp(config),
        )

    def attention(self, config: Config, index: int) -> AttentionShape:
        """A layer's attention."""
        heads = config.dimension("num_attention_heads")
        return AttentionShape(
            heads=heads,
            kv_heads=config.dimension("num_key_value_heads", default=heads),
            head_dim=config.dimension("head_dim", default=self.head_dim(config)),
        )

    def head_dim(self, config: Config) -> int:
        """Numbers of a head, where a config doesn't say."""
        return config.dimension("hidden_size") // config.dimension("num_attention_heads")

    def mlp(self, config: Config) -> MlpShape:
        """A layer's MLP."""
        return MlpShape(width=config.dimension("intermediate_size"), activation=ACTIVATIONS[self.activation])

    def arithmetic(self, config: Any) -> Arithmetic:
        """What is computed besides, by transformers' config of the network (`PretrainedConfig`)."""
        return Arithmetic(norm_epsilon=config.rms_norm_eps, rotaries={"default": config.rope_parameters})


def sliding_window(config: Config, index: int, windowed: bool, default: int | None = 4096) -> int | None:
    """A layer's window where a config turns windows on with `use_sliding_window`: for the layers that `layer_types`
    names; where there is no such list, for those that are `windowed` by the family's rule."""
    if not config.get("use_sliding_window", False):
        return None
    kind = config.listed("layer_types", index)
    return config.window(default) if (windowed if kind is None else kind == SLIDING) else None


def layer_types(network: NetworkShape) -> dict[str, list[Any]]:
    """`layer_types` for the windows of a network."""
    windows = [None if layer.attention is None else layer.attention.window for layer in network.layers]
    return {"layer_types": [FULL if window is None else SLIDING for window in windows]}
