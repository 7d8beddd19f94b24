"""The forward pass of a decoder of which each layer may be another, over packed sequences.

One pass serves training, scoring and calibration. It holds no weights of its own: a decoder is a list of tensors,
which may be views into a mapped checkpoint or trainable parameters. Same arithmetic as transformers' networks of the
families in `shared.network.families`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, ClassVar, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.network.families import Arithmetic
from shared.network.shape import Activation, AttentionShape, MlpShape, NetworkShape
from shared.network.tensors import tensors
from shared.supernet.segments import Segments


class Sequences(Protocol):
    """Tokens of one pass through a network, and which of them attend to which."""

    @property
    def tokens(self) -> Tensor:
        """Their ids, (T,)."""
        ...

    @property
    def positions(self) -> Tensor:
        """Their positions, (T,)."""
        ...

    @property
    def segments(self) -> Segments:
        """Which of them make up an item: its outputs are to depend on nothing else of the same pass."""
        ...

    def attend(
        self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, window: int | None, invariant: bool = False
    ) -> Tensor:
        """Attention in the network's `layer`-th layer.

        `queries` (T, heads, head_dim), `keys` and `values` (T, kv_heads, head_dim); returns (T, heads * head_dim).
        `window`: how many tokens back a token sees, itself included; None for all. `invariant` asks for batch
        invariance: outcomes that are the same to the last bit whatever other segments are there. It can be had on a
        CPU, of a `Packed`, unless a window narrows what some of its segments see and not what others see.
        """
        ...


ACTIVATIONS: Mapping[Activation, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
}


class Projection(ABC):
    """A linear layer: weight (outputs, inputs), in whatever form, and where the family has one, bias (outputs,).

    What is done with its outputs is asked for along with it, as some forms can do both at once.
    """

    weight: Tensor
    bias: Tensor | None
    needs_batch_invariance: ClassVar[bool] = False
    """Whether a rounding more or less may decide how inputs are multiplied, which then depends on their segments."""

    @abstractmethod
    def __call__(self, inputs: Tensor) -> Tensor:
        """Outputs (T, outputs) of inputs (T, inputs), in the inputs' dtype."""

    def activated(self, inputs: Tensor, activation: Activation) -> Tensor:
        """The outputs' activations."""
        outputs = self(inputs)
        if activation == "silu" and not outputs.requires_grad:
            return F.silu(outputs, inplace=True)
        return ACTIVATIONS[activation](outputs)

    def times(self, inputs: Tensor, other: Tensor) -> Tensor:
        """The outputs times another tensor of their shape, which is no longer needed."""
        outputs = self(inputs)
        return other * outputs if other.requires_grad or outputs.requires_grad else other.mul_(outputs)

    def plus(self, inputs: Tensor, other: Tensor) -> Tensor:
        """The outputs plus another tensor of their shape."""
        return other + self(inputs)

    def for_segments(self, segments: Segments) -> "Projection":
        """The layer for inputs of these segments: itself, unless its arithmetic looks at more than one token."""
        return self

    @abstractmethod
    def map(self, change: Callable[[Tensor], Tensor]) -> "Projection":
        """The same layer with every tensor changed."""


@dataclass(frozen=True)
class Linear(Projection):
    """Weight (outputs, inputs) and, where the family has one, bias (outputs,)."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.weight, self.bias)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Linear":
        return Linear(change(self.weight), None if self.bias is None else change(self.bias))


@dataclass(frozen=True)
class _Block:
    """What adds to the state: norms and linear layers."""

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same block with every tensor changed."""
        return self._with(
            {
                name: change(value) if isinstance(value, Tensor) else value.map(change)
                for name, value in self._parts()
                if isinstance(value, Tensor | Projection)
            }
        )

    def projected(self, change: Callable[[Projection], Projection]) -> Self:
        """The same block with every linear layer in another form."""
        return self._with({name: change(value) for name, value in self._parts() if isinstance(value, Projection)})

    @property
    def projections(self) -> list[Projection]:
        """Its linear layers."""
        return [value for _, value in self._parts() if isinstance(value, Projection)]

    def _parts(self) -> Iterator[tuple[str, Any]]:
        return ((field.name, getattr(self, field.name)) for field in fields(self))

    def _with(self, changed: dict[str, Any]) -> Self:
        return replace(self, **changed)


@dataclass(frozen=True)
class Attention(_Block):
    """The weights of one layer's attention."""

    shape: AttentionShape
    norm: Tensor
    query: Projection
    key: Projection
    value: Projection
    output: Projection
    query_norm: Tensor | None = None
    key_norm: Tensor | None = None
    post_norm: Tensor | None = None


@dataclass(frozen=True)
class Mlp(_Block):
    """The weights of one layer's MLP."""

    shape: MlpShape
    norm: Tensor
    gate: Projection
    up: Projection
    down: Projection
    post_norm: Tensor | None = None

    def neurons(self, inputs: Tensor) -> Tensor:
        """The MLP's neurons (T, width) from its normed inputs (T, hidden)."""
        return self.up.times(inputs, self.gate.activated(inputs, self.shape.activation))


@dataclass(frozen=True)
class Layer:
    """The weights of one decoder layer: those of its blocks, as far as there are any, and of its shortcuts."""

    attention: Attention | None
    mlp: Mlp | None
    attention_shortcut: Tensor | None = None
    mlp_shortcut: Tensor | None = None

    @property
    def projections(self) -> list[Projection]:
        """Its linear layers."""
        return [one for block in (self.attention, self.mlp) if block is not None for one in block.projections]

    def projected(self, change: Callable[[Projection], Projection]) -> "Layer":
        """The same layer with every linear layer in another form."""
        return replace(
            self,
            attention=None if self.attention is None else self.attention.projected(change),
            mlp=None if self.mlp is None else self.mlp.projected(change),
        )

    @property
    def needs_batch_invariance(self) -> bool:
        """Whether its linear layers do."""
        return any(one.needs_batch_invariance for one in self.projections)

    def for_segments(self, segments: Segments) -> "Layer":
        """The layer for inputs of these segments."""
        if self.needs_batch_invariance:
            return self.projected(lambda projection: projection.for_segments(segments))
        return self

    def map(self, change: Callable[[Tensor], Tensor]) -> "Layer":
        """The same layer with every tensor changed."""
        return Layer(
            attention=None if self.attention is None else self.attention.map(change),
            mlp=None if self.mlp is None else self.mlp.map(change),
            attention_shortcut=None if self.attention_shortcut is None else change(self.attention_shortcut),
            mlp_shortcut=None if self.mlp_shortcut is None else change(self.mlp_shortcut),
        )


@dataclass(frozen=True)
class Rotary:
    """Rotary position embedding: `frequencies` (head_dim / 2,) and the scale of cosine and sine."""

    frequencies: Tensor
    scale: float

    def to(self, device: torch.device) -> "Rotary":
        """The same on a device: a pass would otherwise wait until its frequencies are copied there."""
        return self if self.frequencies.device == device else replace(self, frequencies=self.frequencies.to(device))

    def tables(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine of positions (T,), each (T, 1, head_dim); the first half of the sine is negative."""
        angles = positions[:, None, None].float() * self.frequencies.to(positions.device)
        cosine, sine = (angles.cos() * self.scale).to(dtype), (angles.sin() * self.scale).to(dtype)
        return torch.cat((cosine, cosine), dim=-1), torch.cat((-sine, sine), dim=-1)


Rotations = Mapping[tuple[str, int], tuple[Tensor, Tensor]]
"""Cosine and sine of each rotary embedding, by its name and the heads' size."""

LayerObserver = Callable[[int, Tensor, Tensor | None, Tensor], None]
"""Called after each layer with its index, its input (T, hidden), its MLP's neurons (T, width), if it has an MLP, and
its output (T, hidden)."""

LayerStep = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""One layer of a pass: from the state before it, (T, hidden), to the state after it and its MLP's neurons."""
LayerRunner = Callable[[LayerStep, Tensor], tuple[Tensor, Tensor | None]]
"""How a layer is run on the state before it: it may have its step computed again in the backward pass."""


def run_once(step: LayerStep, state: Tensor) -> tuple[Tensor, Tensor | None]:
    """A layer is simply run."""
    return step(state)


@dataclass(frozen=True)
class Decoder:
    """A whole network: embeddings (vocabulary, hidden), layers, last norm, language head (vocabulary, hidden)."""

    shape: NetworkShape
    arithmetic: Arithmetic
    embeddings: Tensor
    layers: Sequence[Layer]
    norm: Tensor
    head: Tensor
    rotaries: Mapping[tuple[str, int], Rotary]

    def map(self, change: Callable[[Tensor], Tensor]) -> "Decoder":
        """The same network with every weight changed, tied weights once; what isn't a weight goes where they go."""
        embeddings = change(self.embeddings)
        return replace(
            self,
            embeddings=embeddings,
            head=embeddings if self.head is self.embeddings else change(self.head),
            layers=tuple(layer.map(change) for layer in self.layers),
            norm=change(self.norm),
            rotaries={key: rotary.to(embeddings.device) for key, rotary in self.rotaries.items()},
        )

    @property
    def bytes(self) -> int:
        """Memory of all weights and scales: each tensor once, of a view what it shows."""
        sizes: list[int] = []

        def add(tensor: Tensor) -> Tensor:
            sizes.append(tensor.nbytes)
            return tensor

        self.map(add)
        return sum(sizes)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Every weight under the name that the network's own Hugging Face checkpoint gives it."""
        for spec in tensors(self.shape):
            found: Any = self if spec.layer is None else self.layers[spec.layer]
            for part in spec.part.split("."):
                found = getattr(found, part)
            if isinstance(found, Projection):
                found = found.bias if spec.bias else found.weight
            yield spec.name, found

    def hidden(self, sequences: Sequences, observe: LayerObserver | None = None, run: LayerRunner = run_once) -> Tensor:
        """States after the last norm, (T, hidden)."""
        state = self.embedded(sequences.tokens)
        rotations = self.rotations(sequences.positions, state.dtype)
        for index, layer in enumerate(self.layers):
            before = state
            step = partial(self.through, index, layer, rotations=rotations, sequences=sequences)
            state, neurons = run(step, before)
            if observe is not None:
                observe(index, before, neurons, state)
        return self.outputs(state)

    def layer_outputs(self, index: int, layer: Layer, state: Tensor, sequences: Sequences) -> Tensor:
        """The state after a layer that stands in the place of the network's own one, of the state before it."""
        rotations = self.rotations(sequences.positions, state.dtype)
        return self.through(index, layer, state, rotations, sequences)[0]

    def embedded(self, tokens: Tensor) -> Tensor:
        """The states of tokens (T,) before the first layer, (T, hidden)."""
        state = F.embedding(tokens, self.embeddings)
        scale = self.arithmetic.embedding_scale
        # The scale is rounded as the weights are, since transformers does so.
        return state if scale == 1 else state * torch.tensor(scale, dtype=state.dtype).item()

    def outputs(self, state: Tensor) -> Tensor:
        """The states after the last norm, of those after the last layer, both (T, hidden)."""
        return self._normed(state, self.norm)

    def logits(self, states: Tensor) -> Tensor:
        """Scores of every word of the vocabulary, (..., vocabulary)."""
        return F.linear(states, self.head)

    def rotations(self, positions: Tensor, dtype: torch.dtype) -> Rotations:
        """What turns the queries and keys at some positions (T,)."""
        return {key: rotary.tables(positions, dtype) for key, rotary in self.rotaries.items()}

    def through(
        self,
        index: int,
        layer: Layer,
        state: Tensor,
        rotations: Rotations,
        sequences: Sequences,
        places: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """The state after a layer that is the network's `index`-th, and its MLP's neurons; only at some `places` (P,),
        if they are given. What they don't need is not computed, but where the layer needs batch invariance."""
        layer = layer.for_segments(sequences.segments)
        attention, mlp, neurons = layer.attention, layer.mlp, None
        attended = None if attention is None else self._attended(index, attention, state, rotations, sequences)
        if places is not None and not layer.needs_batch_invariance:
            state, attended = state[places], None if attended is None else attended[places]
        if layer.attention_shortcut is not None:
            state = F.linear(state, layer.attention_shortcut)
        if attention is not None and attended is not None:
            state = self._added(state, attention.output, attended, attention.post_norm)
        if mlp is not None:
            neurons = mlp.neurons(self._normed(state, mlp.norm))
        if layer.mlp_shortcut is not None:
            state = F.linear(state, layer.mlp_shortcut)
        if mlp is not None and neurons is not None:
            state = self._added(state, mlp.down, neurons, mlp.post_norm)
        if places is not None and layer.needs_batch_invariance:
            state, neurons = state[places], None if neurons is None else neurons[places]
        return state, neurons

    def _attended(
        self, index: int, attention: Attention, state: Tensor, rotations: Rotations, sequences: Sequences
    ) -> Tensor:
        """What a layer's attention finds, (T, heads * head_dim)."""
        shape, inner = attention.shape, self._normed(state, attention.norm)
        queries = attention.query(inner).view(-1, shape.heads, shape.head_dim)
        keys = attention.key(inner).view(-1, shape.kv_heads, shape.head_dim)
        values = attention.value(inner).view(-1, shape.kv_heads, shape.head_dim)
        if attention.query_norm is not None and attention.key_norm is not None:
            queries, keys = self._normed(queries, attention.query_norm), self._normed(keys, attention.key_norm)
        if shape.rotary is not None:
            rotation = rotations[shape.rotary, shape.head_dim]
            queries, keys = _rotated(queries, rotation), _rotated(keys, rotation)
        if shape.scale is not None and (factor := shape.scale * shape.head_dim**0.5) != 1:
            queries = queries * factor  # attention itself always scales by the default
        return sequences.attend(index, queries, keys, values, shape.window, attention.query.needs_batch_invariance)

    def _added(self, state: Tensor, projection: Projection, inputs: Tensor, norm: Tensor | None) -> Tensor:
        """The state with what a block's last linear layer makes of its inputs."""
        return projection.plus(inputs, state) if norm is None else state + self._normed(projection(inputs), norm)

    def _normed(self, state: Tensor, weight: Tensor) -> Tensor:
        single, epsilon, offset = state.float(), self.arithmetic.norm_epsilon, self.arithmetic.norm_offset
        if offset:
            scale = torch.rsqrt(single.pow(2).mean(-1, keepdim=True) + epsilon)
            return (single * scale * (offset + weight.float())).to(state.dtype)
        if single is state or torch.is_grad_enabled():
            scale = torch.rsqrt(single.pow(2).mean(-1, keepdim=True) + epsilon)
            return weight * (single * scale).to(state.dtype)
        # The same, three times as fast: one reduction that leaves no tensor of squares behind, the rest in place.
        mean_square = torch.linalg.vector_norm(single, dim=-1, keepdim=True).square_().div_(state.shape[-1])
        return single.mul_(mean_square.add_(epsilon).rsqrt_()).to(state.dtype).mul_(weight)


def _rotated(states: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """`rotation` holds the cosine, and the sine that is negative in its first half."""
    cosine, sine = rotation
    return torch.addcmul(states * cosine, states.roll(states.shape[-1] // 2, dims=-1), sine)
