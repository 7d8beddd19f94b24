"""The search space: what may be chosen, how many networks that makes, and how large each of them is."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from shared.architecture import Architecture, Quantization
from shared.errors import UserError
from shared.messages import Dtype
from shared.shape import ModelShape
from shared.text import shown

Genome = tuple[int, ...]
"""One gene for the depth, one for each layer of the super-network, one for the quantization: indices into `depths`,
`mlp_widths` and `quantizations`."""

QUANTIZATIONS: tuple[Quantization, ...] = get_args(Quantization)
WEIGHT_BYTES: dict[Dtype, int] = {"float32": 4, "bfloat16": 2}
SCALE_BYTES = 4
"""Of each row of an INT8 weight: LLM.int8() keeps its largest absolute value in float32."""


@dataclass(frozen=True)
class SearchSpace:
    """All sub-networks with one of `depths` layers and, layer by layer, one of `mlp_widths` neurons, in one of
    `quantizations`.

    `drop_order` lists the layers in the order in which they leave: a network of depth d lacks its first `layers - d`.
    Choices are kept descending, so gene 0 is always the largest choice; unquantised before INT8.
    """

    shape: ModelShape
    depths: tuple[int, ...]
    mlp_widths: tuple[int, ...]
    drop_order: tuple[int, ...]
    quantizations: tuple[Quantization, ...] = ("none",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "depths", _choices("depths", self.depths, self.shape.layers, "layers"))
        object.__setattr__(self, "mlp_widths", _choices("mlp_widths", self.mlp_widths, self.shape.mlp_width, "neurons"))
        object.__setattr__(self, "quantizations", tuple(one for one in QUANTIZATIONS if one in self.quantizations))
        dropped = self.shape.layers - self.depths[-1]
        if len(set(self.drop_order)) != len(self.drop_order) or len(self.drop_order) < dropped:
            raise UserError(f"drop_order must name {dropped} different layers, it is {shown(list(self.drop_order))}")

    @property
    def genomes(self) -> int:
        """Number of genomes, counting genes that have no effect."""
        return len(self.depths) * int(len(self.mlp_widths) ** self.shape.layers) * len(self.quantizations)

    @property
    def networks(self) -> int:
        """Number of distinct networks."""
        return sum(int(len(self.mlp_widths) ** depth) for depth in self.depths) * len(self.quantizations)

    def kept_layers(self, depth: int) -> tuple[int, ...]:
        """Indices of the layers of a network of this depth, ascending."""
        dropped = set(self.drop_order[: self.shape.layers - depth])
        return tuple(layer for layer in range(self.shape.layers) if layer not in dropped)

    def architecture(self, genome: Sequence[int]) -> Architecture:
        """Decode a genome; genes of dropped layers have no effect."""
        layers = self.kept_layers(self.depths[genome[0]])
        return Architecture(
            layers=layers,
            mlp_widths=tuple(self.mlp_widths[genome[1 + layer]] for layer in layers),
            quantization=self.quantizations[genome[-1]],
        )

    def genome(self, architecture: Architecture) -> Genome:
        """Encode an architecture; genes without effect are 0, so that equal networks have equal genomes.

        Raises UserError if the architecture is not in the space.
        """
        if architecture.depth not in self.depths or architecture.layers != self.kept_layers(architecture.depth):
            raise UserError(f"layers {shown(list(architecture.layers))} are none of the search space's choices")
        if architecture.quantization not in self.quantizations:
            raise UserError(f"quantization {architecture.quantization} is none of the search space's choices")
        genes = [0] * (2 + self.shape.layers)
        genes[0] = self.depths.index(architecture.depth)
        for layer, width in zip(architecture.layers, architecture.mlp_widths, strict=True):
            if width not in self.mlp_widths:
                raise UserError(
                    f"layer {layer}: MLP width {width} is none of the choices {shown(list(self.mlp_widths))}"
                )
            genes[1 + layer] = self.mlp_widths.index(width)
        genes[-1] = self.quantizations.index(architecture.quantization)
        return tuple(genes)

    def sample(self, rng: random.Random) -> Architecture:
        """A network from uniformly drawn genes, as InstaTune trains them: in full precision, whatever may be chosen."""
        genes = [rng.randrange(len(self.depths))]
        genes += [rng.randrange(len(self.mlp_widths)) for _ in range(self.shape.layers)]
        return self.architecture([*genes, 0]).quantized("none")

    def largest(self, depth: int | None = None) -> Architecture:
        """The network with every choice at its largest, at `depth` or at the greatest depth."""
        layers = self.kept_layers(self.depths[0] if depth is None else depth)
        widths = (self.mlp_widths[0],) * len(layers)
        return Architecture(layers=layers, mlp_widths=widths, quantization=self.quantizations[0])

    def smallest(self, depth: int | None = None) -> Architecture:
        """The network with every choice at its smallest, at `depth` or at the least depth."""
        layers = self.kept_layers(self.depths[-1] if depth is None else depth)
        widths = (self.mlp_widths[-1],) * len(layers)
        return Architecture(layers=layers, mlp_widths=widths, quantization=self.quantizations[-1])

    def parameters(self, architecture: Architecture) -> int:
        """Exact number of parameters (tied embeddings counted once)."""
        return parameters(self.shape, architecture)


def dense(shape: ModelShape) -> Architecture:
    """The whole network: every layer, every neuron."""
    return Architecture(layers=tuple(range(shape.layers)), mlp_widths=(shape.mlp_width,) * shape.layers)


def parameters(shape: ModelShape, architecture: Architecture) -> int:
    """Exact number of parameters of a sub-network of a model of this shape (tied embeddings counted once)."""
    layers = sum(shape.attention_parameters + shape.mlp_parameters(width) for width in architecture.mlp_widths)
    return shape.embedding_parameters + layers


def weight_bytes(shape: ModelShape, architecture: Architecture, dtype: Dtype) -> int:
    """Exact memory of a sub-network's weights: with INT8, one byte for each weight of the layers' linear layers and a
    scale for each of their rows; everything else, biases included, in `dtype`."""
    whole = WEIGHT_BYTES[dtype] * parameters(shape, architecture)
    if architecture.quantization == "none":
        return whole
    heads, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    weights = rows = 0
    for width in architecture.mlp_widths:
        weights += shape.hidden_size * (2 * heads + 2 * keys + 3 * width)
        rows += heads + 2 * keys + shape.hidden_size + 2 * width + shape.hidden_size
    return whole - weights * (WEIGHT_BYTES[dtype] - 1) + rows * SCALE_BYTES


def cache_bytes(shape: ModelShape, architecture: Architecture, dtype: Dtype) -> int:
    """Exact memory of the keys and values that a sub-network holds of each token, in `dtype`: what it takes beside its
    weights grows with the tokens that are served."""
    return 2 * architecture.depth * shape.kv_heads * shape.head_dim * WEIGHT_BYTES[dtype]


def check_fits(shape: ModelShape, architecture: Architecture) -> None:
    """Raise UserError unless the architecture can be cut out of a model of this shape."""
    if architecture.layers[-1] >= shape.layers:
        raise UserError(
            f"layers: {shown(architecture.layers[-1])} is asked for, but the model has layers 0 to {shape.layers - 1}"
        )
    if max(architecture.mlp_widths) > shape.mlp_width:
        raise UserError(
            f"mlp_widths: {shown(max(architecture.mlp_widths))} is above the model's {shape.mlp_width} neurons"
        )


def _choices(field: str, values: Sequence[int], limit: int, unit: str) -> tuple[int, ...]:
    if not values:
        raise UserError(f"space.{field}: give at least one choice")
    if min(values) < 1 or max(values) > limit:
        wrong = max(values) if max(values) > limit else min(values)
        raise UserError(
            f"space.{field}: {shown(wrong)} is impossible, the model has {limit} {unit}; choose from 1 to {limit}"
        )
    if len(set(values)) != len(values):
        raise UserError(f"space.{field}: {shown(list(values))} names a choice twice")
    return tuple(sorted(values, reverse=True))
