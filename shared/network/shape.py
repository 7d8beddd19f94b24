"""What a decoder is, layer by layer: all that decides which tensors it has and what is computed with them."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from shared.errors import UserError
from shared.text import shown

Activation = Literal["silu", "gelu_tanh"]
"""SwiGLU's (arXiv 2002.05202) and Gemma's, GELU approximated by a hyperbolic tangent."""

MOST = 2**31
"""Of any dimension."""
STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True)
class AttentionShape:
    """One layer's attention.

    `window`: how many tokens back a token sees, itself included; None for all. `rotary`: which of the network's rotary
    embeddings turns queries and keys; None for none. `scale`: of the scores; None for head_dim ** -0.5. `qk_norm`: each
    head's queries and keys are normed; `post_norm`: so is what the attention adds.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    heads: int
    kv_heads: int
    head_dim: int
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False
    post_norm: bool = False
    window: int | None = None
    rotary: str | None = "default"
    scale: float | None = None

    def __post_init__(self) -> None:
        for name in ("heads", "kv_heads", "head_dim"):
            _positive(f"attention.{name}", getattr(self, name))
        if self.heads % self.kv_heads:
            raise UserError(
                f"attention: {self.heads} heads can't share {self.kv_heads} key and value heads evenly; "
                "is the checkpoint damaged?"
            )
        if self.window is not None:
            _positive("attention.window", self.window)
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise UserError(f"attention.scale: {self.scale} is impossible, it must be a number above 0")
        if self.rotary is not None and self.head_dim % 2:
            raise UserError(f"attention.head_dim: {self.head_dim} is odd, which no rotary embedding can turn")

    @property
    def queries(self) -> int:
        """Numbers in a token's queries."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Numbers in a token's keys, and in its values."""
        return self.kv_heads * self.head_dim


@dataclass(frozen=True)
class MlpShape:
    """One layer's gated MLP of `width` neurons; `post_norm`: what it adds is normed."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    width: int
    bias: bool = False
    post_norm: bool = False
    activation: Activation = "silu"

    def __post_init__(self) -> None:
        _positive("mlp.width", self.width)


@dataclass(frozen=True)
class LayerShape:
    """One decoder layer: attention, then an MLP, each of which may be missing.

    `hidden` is the size of the state that comes in. Each block adds to it, or, where the shortcut holds a matrix
    (SliceGPT, arXiv 2401.15024), to that matrix times it: `attention_shortcut` and `mlp_shortcut` are the sizes that
    these matrices lead to, None where there is none and the state stays as it is.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    hidden: int
    attention: AttentionShape | None
    mlp: MlpShape | None
    attention_shortcut: int | None = None
    mlp_shortcut: int | None = None

    def __post_init__(self) -> None:
        for name in ("hidden", "attention_shortcut", "mlp_shortcut"):
            if getattr(self, name) is not None:
                _positive(name, getattr(self, name))

    @property
    def between(self) -> int:
        """Size of the state between attention and MLP."""
        return self.attention_shortcut or self.hidden

    @property
    def outputs(self) -> int:
        """Size of the state that leaves the layer."""
        return self.mlp_shortcut or self.between

    @property
    def mlp_width(self) -> int:
        """Number of MLP neurons, 0 where there is no MLP."""
        return 0 if self.mlp is None else self.mlp.width

    @property
    def keeps_state(self) -> bool:
        """Whether the layer only adds to the state, so that a network can do without it."""
        return self.attention_shortcut is None and self.mlp_shortcut is None


@dataclass(frozen=True)
class NetworkShape:
    """A whole decoder: embeddings (vocab_size, hidden size of the first layer), layers, last norm, language head
    (vocab_size, size that leaves the last layer). `family` says what else is computed, and how tensors are named.

    Raises UserError where a layer doesn't take what the one before it leaves.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    family: str
    vocab_size: int
    layers: tuple[LayerShape, ...]
    tied_embeddings: bool

    def __post_init__(self) -> None:
        _positive("vocab_size", self.vocab_size)
        if not self.layers:
            raise UserError("layers: a network has at least one")
        for index, (above, below) in enumerate(zip(self.layers[1:], self.layers, strict=False), start=1):
            if above.hidden != below.outputs:
                raise UserError(
                    f"layers: layer {index} takes states of {above.hidden} numbers, "
                    f"but layer {index - 1} leaves {below.outputs}"
                )
        if self.tied_embeddings and self.hidden != self.outputs:
            raise UserError(f"tied embeddings: of {self.hidden} numbers, but the last layer leaves {self.outputs}")

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.layers)

    @property
    def hidden(self) -> int:
        """Size of an embedding."""
        return self.layers[0].hidden

    @property
    def outputs(self) -> int:
        """Size of the states that the language head reads."""
        return self.layers[-1].outputs

    @property
    def mlp_widths(self) -> tuple[int, ...]:
        """Number of MLP neurons of each layer, 0 where there is no MLP."""
        return tuple(layer.mlp_width for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """The shape as JSON values."""
        return asdict(self) | {"layers": layers_to_json(self.layers)}

    @classmethod
    def from_json(cls, value: object, where: str) -> "NetworkShape":
        """What `to_json` gave. Raises UserError for anything else; `where` names it."""
        return _validated(TypeAdapter(cls), value, where, "not the shape of a network")


def layers_to_json(layers: tuple[LayerShape, ...]) -> list[dict[str, Any]]:
    """Layers as JSON values."""
    return [asdict(layer) for layer in layers]


def layers_from_json(value: object, where: str) -> tuple[LayerShape, ...]:
    """What `layers_to_json` gave. Raises UserError for anything else; `where` names it."""
    if not isinstance(value, list):
        raise UserError(f"{where}: layers must be a list with one object for each layer")
    return _validated(TypeAdapter(tuple[LayerShape, ...]), value, where, "not a network's layers")


Parsed = TypeVar("Parsed")


def _validated(adapter: TypeAdapter[Parsed], value: object, where: str, wrong: str) -> Parsed:
    try:
        return adapter.validate_json(json.dumps(value))
    except ValidationError as error:
        raise UserError(f"{where}: {wrong} ({_first(error)})") from error
    except RecursionError as error:
        raise UserError(f"{where}: {wrong} (nested too deeply)") from error
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _first(error: ValidationError) -> str:
    detail = error.errors()[0]
    return f"{'.'.join(map(str, detail['loc'])) or 'layers'}: {detail['msg']}"


def _positive(name: str, value: int) -> None:
    if not 1 <= value <= MOST:
        raise UserError(f"{name}: {shown(value)} is impossible, it must be from 1 to {MOST}")
