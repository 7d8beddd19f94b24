"""The forward pass of a Llama-like decoder whose layers may differ in width, over packed sequences.

One pass serves training, scoring and calibration. It holds no weights of its own: a decoder is a list of tensors,
which may be views into a mapped checkpoint or trainable parameters. Same arithmetic as transformers' Llama, Mistral,
Qwen2 and Qwen3.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.shape import ModelShape
from shared.supernet.segments import Segments


class Sequences(Protocol):
    """Tokens to be read, and who of them sees whom."""

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
        """Which of them make up an item: its outputs are to depend on nothing else that is read with it."""
        ...

    def attend(
        self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, window: int | None, steady: bool = False
    ) -> Tensor:
        """Attention in the network's `layer`-th layer.

        `queries` (T, heads, head_dim), `keys` and `values` (T, kv_heads, head_dim); returns (T, heads * head_dim).
        `window`: how many tokens back a token sees, itself included; None for all. `steady` asks for outcomes that are
        the same to the last bit whatever other segments are there, where that can be had: on a CPU, of a `Packed`,
        unless a window narrows what some of its segments see and not what others see.
        """
        ...


class Projection(Protocol):
    """A linear layer: weight (outputs, inputs), in whatever form, and where the family has one, bias (outputs,)."""

    @property
    def weight(self) -> Tensor: ...

    @property
    def bias(self) -> Tensor | None: ...

    def __call__(self, inputs: Tensor) -> Tensor:
        """Outputs (T, outputs) of inputs (T, inputs), in the inputs' dtype."""
        ...

    def map(self, change: Callable[[Tensor], Tensor]) -> "Projection":
        """The same layer with every tensor changed."""
        ...


@dataclass(frozen=True)
class Linear:
    """Weight (outputs, inputs) and, where the family has one, bias (outputs,)."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.weight, self.bias)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Linear":
        return Linear(change(self.weight), None if self.bias is None else change(self.bias))


@dataclass(frozen=True)
class Layer:
    """The weights of one decoder layer; `window` is how far its attention looks back (None: all the way)."""

    attention_norm: Tensor
    query: Projection
    key: Projection
    value: Projection
    output: Projection
    query_norm: Tensor | None
    key_norm: Tensor | None
    mlp_norm: Tensor
    gate: Projection
    up: Projection
    down: Projection
    window: int | None
    steady: ClassVar[bool] = False
    """Whether its attention is to be `steady`: where a rounding more or less may decide how inputs are multiplied."""

    @property
    def mlp_width(self) -> int:
        """Number of MLP neurons."""
        return self.gate.weight.shape[0]

    def reading(self, segments: Segments) -> "Layer":
        """The layer as it reads a row of these segments: itself, unless its arithmetic looks at more than one token."""
        return self

    def neurons(self, inputs: Tensor) -> Tensor:
        """The MLP's neurons (T, width) from its normed inputs (T, hidden)."""
        gate, up = self.gate(inputs), self.up(inputs)
        return F.silu(gate) * up if gate.requires_grad else F.silu(gate, inplace=True).mul_(up)

    def after_attention(self, state: Tensor, attended: Tensor) -> Tensor:
        """The state (T, hidden) with the attention's outcome (T, heads * head_dim) added."""
        return state + self.output(attended)

    def after_mlp(self, state: Tensor, neurons: Tensor) -> Tensor:
        """The state (T, hidden) with the MLP's outcome added."""
        return state + self.down(neurons)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Layer":
        """The same layer with every tensor changed."""
        return replace(
            self,
            attention_norm=change(self.attention_norm),
            query=self.query.map(change),
            key=self.key.map(change),
            value=self.value.map(change),
            output=self.output.map(change),
            query_norm=None if self.query_norm is None else change(self.query_norm),
            key_norm=None if self.key_norm is None else change(self.key_norm),
            mlp_norm=change(self.mlp_norm),
            gate=self.gate.map(change),
            up=self.up.map(change),
            down=self.down.map(change),
        )


@dataclass(frozen=True)
class Rotary:
    """Rotary position embedding: `frequencies` (head_dim / 2,) and the scale of cosine and sine."""

    frequencies: Tensor
    scale: float

    def tables(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine of positions (T,), each (T, 1, head_dim); the first half of the sine is negative."""
        angles = positions[:, None, None].float() * self.frequencies.to(positions.device)
        cosine, sine = (angles.cos() * self.scale).to(dtype), (angles.sin() * self.scale).to(dtype)
        return torch.cat((cosine, cosine), dim=-1), torch.cat((-sine, sine), dim=-1)


LayerObserver = Callable[[int, Tensor, Tensor, Tensor], None]
"""Called after each layer with its index, its input (T, hidden), its MLP's neurons (T, width) and its output (T,
hidden)."""


@dataclass(frozen=True)
class Decoder:
    """A whole network: embeddings (vocabulary, hidden), layers, last norm, language head (vocabulary, hidden)."""

    shape: ModelShape
    embeddings: Tensor
    layers: tuple[Layer, ...]
    norm: Tensor
    head: Tensor
    rotary: Rotary
    norm_epsilon: float

    def map(self, change: Callable[[Tensor], Tensor]) -> "Decoder":
        """The same network with every weight changed, tied weights once."""
        embeddings = change(self.embeddings)
        return replace(
            self,
            embeddings=embeddings,
            head=embeddings if self.head is self.embeddings else change(self.head),
            layers=tuple(layer.map(change) for layer in self.layers),
            norm=change(self.norm),
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

    def hidden(self, read: Sequences, observe: LayerObserver | None = None) -> Tensor:
        """States after the last norm, (T, hidden)."""
        state = F.embedding(read.tokens, self.embeddings)
        rotation = self.rotary.tables(read.positions, state.dtype)
        for index, layer in enumerate(self.layers):
            before = state
            state, neurons = self._through(index, layer, state, rotation, read)
            if observe is not None:
                observe(index, before, neurons, state)
        return self._normed(state, self.norm)

    def hidden_together(self, reads: Iterable[Sequences], prepare: Callable[[Layer], Layer]) -> list[Tensor]:
        """`hidden` of each, layer by layer: each layer is prepared once for all of them, and what a sequence leaves in
        a layer is there for those after it."""
        reads = list(reads)
        states = [F.embedding(read.tokens, self.embeddings) for read in reads]
        rotations = [self.rotary.tables(read.positions, self.embeddings.dtype) for read in reads]
        for index, layer in enumerate(self.layers):
            prepared = prepare(layer)
            for number, read in enumerate(reads):
                states[number], _ = self._through(index, prepared, states[number], rotations[number], read)
        return [self._normed(state, self.norm) for state in states]

    def logits(self, states: Tensor) -> Tensor:
        """Scores of every word of the vocabulary, (..., vocabulary)."""
        return F.linear(states, self.head)

    def _through(
        self, index: int, layer: Layer, state: Tensor, rotation: tuple[Tensor, Tensor], read: Sequences
    ) -> tuple[Tensor, Tensor]:
        """The state after a layer, and its MLP's neurons."""
        shape, layer = self.shape, layer.reading(read.segments)
        inner = self._normed(state, layer.attention_norm)
        queries = layer.query(inner).view(-1, shape.heads, shape.head_dim)
        keys = layer.key(inner).view(-1, shape.kv_heads, shape.head_dim)
        values = layer.value(inner).view(-1, shape.kv_heads, shape.head_dim)
        if layer.query_norm is not None and layer.key_norm is not None:
            queries, keys = self._normed(queries, layer.query_norm), self._normed(keys, layer.key_norm)
        queries, keys = _rotated(queries, rotation), _rotated(keys, rotation)
        attended = read.attend(index, queries, keys, values, layer.window, layer.steady)
        state = layer.after_attention(state, attended)
        neurons = layer.neurons(self._normed(state, layer.mlp_norm))
        return layer.after_mlp(state, neurons), neurons

    def _normed(self, state: Tensor, weight: Tensor) -> Tensor:
        single = state.float()
        if single is state or torch.is_grad_enabled():
            scale = torch.rsqrt(single.pow(2).mean(-1, keepdim=True) + self.norm_epsilon)
            return weight * (single * scale).to(state.dtype)
        # The same, three times as fast: one reduction that leaves no tensor of squares behind, the rest in place.
        mean_square = torch.linalg.vector_norm(single, dim=-1, keepdim=True).square_().div_(state.shape[-1])
        return single.mul_(mean_square.add_(self.norm_epsilon).rsqrt_()).to(state.dtype).mul_(weight)


def _rotated(states: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """`rotation` holds the cosine, and the sine that is negative in its first half."""
    cosine, sine = rotation
    return torch.addcmul(states * cosine, states.roll(states.shape[-1] // 2, dims=-1), sine)
