"""The search space: what may be chosen, how many networks that makes, and how large each of them is."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress
from math import prod
from typing import Literal, get_args

from shared.architecture import Architecture, AttentionChoice, Quantization, derive
from shared.drop_orders import DropOrder, DropOrders, all_orders, one_or_several
from shared.errors import UserError
from shared.network.shape import NetworkShape
from shared.network.sizes import parameters
from shared.text import shown

Genome = tuple[int, ...]
"""A value for each of `SearchSpace.genes`, in their order: an index into what may be chosen."""
GeneKind = Literal["depth", "drop_order", "mlp_width", "attention", "quantization"]

QUANTIZATIONS: tuple[Quantization, ...] = get_args(Quantization)
ATTENTIONS: tuple[AttentionChoice, ...] = get_args(AttentionChoice)
WHICH_LAYERS: tuple[GeneKind, ...] = ("depth", "drop_order")
"""Kinds of genes that say together which layers there are."""


@dataclass(frozen=True)
class Gene:
    """What is chosen among `choices` values for the whole network, or for one layer of the super-network: that has no
    effect on networks that lack the layer."""

    kind: GeneKind
    choices: int
    layer: int | None = None

    @property
    def name(self) -> str:
        """`depth`, `mlp_width[3]`."""
        return self.kind if self.layer is None else f"{self.kind}[{self.layer}]"


@dataclass(frozen=True)
class SearchSpace:
    """All sub-networks with one of `depths` layers and, layer by layer, one of `mlp_widths` neurons, in one of
    `quantizations`; with `skip` among the `attentions`, also those of them that lack any layers' attention.

    `drop_order` lists the layers in the order in which they leave: a network of depth d lacks its first `layers - d`.
    Where it holds several orders, each network goes by one of them. Choices are kept descending, so value 0 of a gene
    is always the largest choice; unquantised before INT8, attention before none; orders make no difference in size.
    Where every layer keeps its attention there are no genes for it, and where there is one order there is none for
    that: genomes of former releases have none.
    Raises UserError for choices that the network doesn't have, and for a network whose layers differ in more than
    windows and rotary embeddings: costs are sums over layers, whichever they are.
    """

    network: NetworkShape
    depths: tuple[int, ...]
    mlp_widths: tuple[int, ...]
    drop_order: DropOrders
    quantizations: tuple[Quantization, ...] = ("none",)
    attentions: tuple[AttentionChoice, ...] = ("keep",)

    def __post_init__(self) -> None:
        check_searchable(self.network)
        object.__setattr__(self, "depths", _choices("depths", self.depths, self.network.depth, "layers"))
        object.__setattr__(
            self, "mlp_widths", _choices("mlp_widths", self.mlp_widths, min(self.network.mlp_widths), "neurons")
        )
        object.__setattr__(self, "quantizations", tuple(one for one in QUANTIZATIONS if one in self.quantizations))
        object.__setattr__(self, "attentions", tuple(one for one in ATTENTIONS if one in self.attentions))
        if "keep" not in self.attentions:
            raise UserError("space.attention: a network without any attention can't be the largest; list keep, too")
        dropped = self.network.depth - self.depths[-1]
        for order in self.drop_orders:
            if len(set(order)) != len(order) or len(order) < dropped:
                raise UserError(f"drop_order must name {dropped} different layers, it is {shown(list(order))}")
        object.__setattr__(self, "drop_order", one_or_several(self.drop_orders))

    @cached_property
    def drop_orders(self) -> tuple[DropOrder, ...]:
        """All orders in which layers may leave."""
        return all_orders(self.drop_order)

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """All that is chosen, in the order of a genome; all layers have the same choices."""
        layers, attentions, orders = range(self.network.depth), len(self.attentions), len(self.drop_orders)
        leaving = [Gene("drop_order", orders)] if orders > 1 else []
        widths = (Gene("mlp_width", len(self.mlp_widths), layer) for layer in layers)
        skips = (Gene("attention", attentions, layer) for layer in layers if attentions > 1)
        held = Gene("quantization", len(self.quantizations))
        return (Gene("depth", len(self.depths)), *leaving, *widths, *skips, held)

    def place(self, name: str) -> int:
        """Where in a genome the gene of this name is."""
        return self._places[name]

    def places(self, kind: GeneKind) -> tuple[int, ...]:
        """Where in a genome the genes of this kind are; those of layers in the order of the layers."""
        return self._places_of_kind.get(kind, ())

    def effective(self, depth: int, order: int = 0) -> tuple[bool, ...]:
        """Whether each gene has an effect on a network of this depth whose layers leave in one of the orders, given by
        its number. The order itself has none where all orders leave the same layers."""
        whole_and_kept = {None, *self.kept_layers(depth, order)}
        differ = any(self.first_order(depth, other) for other in range(len(self.drop_orders)))
        return tuple(gene.layer in whole_and_kept and (gene.kind != "drop_order" or differ) for gene in self.genes)

    @property
    def genomes(self) -> int:
        """Number of genomes, counting genes that have no effect."""
        return prod(gene.choices for gene in self.genes)

    @property
    def networks(self) -> int:
        """Number of distinct networks."""
        return sum(
            prod(
                gene.choices
                for gene in compress(self.genes, self.effective(depth, order))
                if gene.kind not in WHICH_LAYERS
            )
            for depth in self.depths
            for order in range(len(self.drop_orders))
            if self.first_order(depth, order) == order
        )

    def kept_layers(self, depth: int, order: int = 0) -> tuple[int, ...]:
        """Indices of the layers of a network of this depth, ascending, whose layers leave in one of the orders."""
        dropped = set(self.drop_orders[order][: self.network.depth - depth])
        return tuple(layer for layer in range(self.network.depth) if layer not in dropped)

    def first_order(self, depth: int, order: int) -> int:
        """The first of the orders that leaves a network of this depth the same layers as this one."""
        return self._first_orders[depth][self.kept_layers(depth, order)]

    def architecture(self, genome: Sequence[int]) -> Architecture:
        """Decode a genome; genes of dropped layers have no effect."""
        order = sum(genome[place] for place in self.places("drop_order"))
        layers = self.kept_layers(self.depths[genome[self.place("depth")]], order)
        widths, skips = self.places("mlp_width"), self.places("attention")
        return Architecture(
            layers=layers,
            mlp_widths=tuple(self.mlp_widths[genome[widths[layer]]] for layer in layers),
            quantization=self.quantizations[genome[self.place("quantization")]],
            without_attention=tuple(layer for layer in layers if skips and genome[skips[layer]]),
        )

    def genome(self, architecture: Architecture) -> Genome:
        """Encode an architecture; genes without effect are 0, so that equal networks have equal genomes.

        Raises UserError if the architecture is not in the space.
        """
        depth = architecture.depth
        order = self._first_orders.get(depth, {}).get(architecture.layers)
        if order is None:
            raise UserError(f"layers {shown(list(architecture.layers))} are none of the search space's choices")
        if architecture.quantization not in self.quantizations:
            raise UserError(f"quantization {architecture.quantization} is none of the search space's choices")
        genome, widths = [0] * len(self.genes), self.places("mlp_width")
        genome[self.place("depth")] = self.depths.index(depth)
        for place in self.places("drop_order"):
            genome[place] = order
        for layer, width in zip(architecture.layers, architecture.mlp_widths, strict=True):
            if width not in self.mlp_widths:
                raise UserError(
                    f"layer {layer}: MLP width {width} is none of the choices {shown(list(self.mlp_widths))}"
                )
            genome[widths[layer]] = self.mlp_widths.index(width)
        for layer in architecture.without_attention:
            if "skip" not in self.attentions:
                raise UserError(f"layer {layer}: lacks its attention, which is none of the search space's choices")
            genome[self.place(f"attention[{layer}]")] = self.attentions.index("skip")
        genome[self.place("quantization")] = self.quantizations.index(architecture.quantization)
        return tuple(genome)

    def sample(self, rng: random.Random) -> Architecture:
        """A network from uniformly drawn genes, as InstaTune trains them: in full precision, whatever may be chosen."""
        genome = [0 if gene.kind == "quantization" else rng.randrange(gene.choices) for gene in self.genes]
        return self.architecture(genome).quantized("none")

    def largest(self, depth: int | None = None, order: int = 0) -> Architecture:
        """The network with every choice at its largest, at `depth` or at the greatest depth, whose layers leave in one
        of the orders."""
        return self._end([0] * len(self.genes), depth, order)

    def smallest(self, depth: int | None = None, order: int = 0) -> Architecture:
        """The network with every choice at its smallest, at `depth` or at the least depth, whose layers leave in one of
        the orders."""
        return self._end([gene.choices - 1 for gene in self.genes], depth, order)

    def parameters(self, architecture: Architecture) -> int:
        """Exact number of parameters (tied embeddings counted once)."""
        return parameters(derive(self.network, architecture))

    @cached_property
    def _places_of_kind(self) -> dict[GeneKind, tuple[int, ...]]:
        kinds = dict.fromkeys(gene.kind for gene in self.genes)
        return {kind: tuple(place for place, gene in enumerate(self.genes) if gene.kind == kind) for kind in kinds}

    @cached_property
    def _places(self) -> dict[str, int]:
        return {gene.name: place for place, gene in enumerate(self.genes)}

    @cached_property
    def _first_orders(self) -> dict[int, dict[tuple[int, ...], int]]:
        """For each depth, by the layers that a network may have, the first order that leaves it these."""
        orders = range(len(self.drop_orders))[::-1]
        return {depth: {self.kept_layers(depth, order): order for order in orders} for depth in self.depths}

    def _end(self, genome: list[int], depth: int | None, order: int) -> Architecture:
        for place in self.places("drop_order"):
            genome[place] = order
        if depth is not None:
            genome[self.place("depth")] = self.depths.index(depth)
        return self.architecture(genome)


def check_searchable(network: NetworkShape) -> None:
    """Raise UserError for a network over which there can be no search space."""
    kinds = set()
    for index, layer in enumerate(network.layers):
        if layer.attention is None or layer.mlp is None or not layer.keeps_state:
            raise UserError(
                f"space: layer {index} of the model lacks attention or MLP, or has matrices on its shortcuts, so it "
                "can't be searched; take a model whose layers are alike"
            )
        kinds.add((replace(layer.attention, window=None, rotary=None), layer.mlp))
    if len(kinds) > 1:
        raise UserError(
            "space: the model's layers differ in size, so it can't be searched; take one whose layers are alike"
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
