"""Networks by what was taken away from the largest one, step by step: the features of a predictor that is additive."""

from itertools import pairwise

import numpy as np

from services.coordinator.genomes import BoolArray, Encoding, FloatArray, IntArray
from shared.network.sizes import outer_parameters
from shared.space import WHICH_LAYERS, SearchSpace


class StepFeatures:
    """Features that are 0 for a network that has all that any has, and grow with whatever is taken away.

    First there is a feature for layers that leave together, 1 if they have left: where layers leave in one order, one
    for each step to a lesser depth; where in several, what a layer is worth is the same in all of them. A gene's values
    are ordered, 0 is the largest choice: of each other gene there is a feature for each step away from that, 1 if the
    step was taken. Then, for two layers that follow each other and the same gene of both, `both` and `either`:
    how narrow both are (the product of their narrowness, from 0 to 1) and how narrow either is (what is left of 1 after
    both). A sum of them with weights of at least 0 is a function that never falls while genes rise, and yet two layers
    may cost more together than each by itself (`both`), or less (`either`). A gene without effect has features 0.

    Attributes:
        leaving: for layers that leave together the first of them, shape (groups,).
        places: the place in a genome that each step belongs to, that of the depth for layers that leave, which come
            first, shape (steps,).
        steps: the least value of the gene at which the step is taken, shape (steps - groups,).
        pairs: two places for each pair, shape (pairs, 2).
        of_layers: whether each step is one of a layer's gene, shape (steps,).
        weights: what a step takes away, in parameters, those of an average step of all layers' genes being 1; 0 for one
            that takes none, shape (steps,). Steps of one kind of a layer's genes count the same.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        space, genes = encoding.space, encoding.space.genes
        groups = _leaving_together(space)
        self.leaving: IntArray = np.array([group[0] for group in groups], np.int64)
        varying = [
            (place, step)
            for place, gene in enumerate(genes)
            if gene.kind not in WHICH_LAYERS
            for step in range(1, gene.choices)
        ]
        self.places: IntArray = np.array(
            [space.place("depth")] * len(groups) + [place for place, _ in varying], np.int64
        )
        self.steps: IntArray = np.array([step for _, step in varying], np.int64)
        kinds = dict.fromkeys(gene.kind for gene in genes if gene.layer is not None and gene.choices > 1)
        self.pairs: IntArray = np.array(
            [pair for kind in kinds for pair in pairwise(encoding.space.places(kind))], np.int64
        ).reshape(-1, 2)
        self.of_layers: BoolArray = np.array([genes[place].layer is not None for place in self.places], bool)
        self.weights = self._weights(np.array([len(group) for group in groups], np.int64))

    @property
    def count(self) -> int:
        """Number of features: the steps, then `both` of all pairs, then `either`."""
        return len(self.places) + 2 * len(self.pairs)

    def of(self, genomes: IntArray) -> FloatArray:
        """The features, shape (networks, features), each from 0 to 1."""
        genomes = self.encoding.canonical(genomes)
        left = ~self.encoding.kept(genomes)[:, self.leaving]
        taken = genomes[:, self.places[len(self.leaving) :]] >= self.steps
        narrowness = genomes / np.maximum(self.encoding.choices - 1, 1)
        one, other = narrowness[:, self.pairs[:, 0]], narrowness[:, self.pairs[:, 1]]
        effective = self.encoding.effective(genomes)
        present = effective[:, self.pairs[:, 0]] & effective[:, self.pairs[:, 1]]
        both = present * (one * other)
        return np.hstack([left, taken, both, present * (one + other) - both])

    def _weights(self, leaving: IntArray) -> FloatArray:
        """Those of all steps; so many layers are `leaving` in each of the first."""
        space = self.encoding.space
        narrowing = space.parameters(space.largest()) - space.parameters(space.smallest(space.depths[0]))
        whole, shallowest = (space.parameters(space.largest(depth)) for depth in (space.depths[0], space.depths[-1]))
        layers = space.depths[0] - space.depths[-1]
        inside = whole - outer_parameters(space.network)
        of_a_layer = (whole - shallowest) / layers if layers else inside / space.depths[0]
        unit = narrowing / self.of_layers.sum() if narrowing else of_a_layer
        weights = self.of_layers.astype(np.float64)
        for kind in dict.fromkeys(space.genes[place].kind for place in self.places[self.of_layers]):
            places = space.places(kind)
            narrowest = np.zeros(len(space.genes), np.int64)
            narrowest[list(places)] = [space.genes[place].choices - 1 for place in places]
            taken = whole - space.parameters(space.architecture(narrowest.tolist()))
            steps = np.isin(self.places, places)
            weights[steps] = taken / steps.sum() / unit
        weights[: len(leaving)] = leaving * of_a_layer / unit
        return weights


def _leaving_together(space: SearchSpace) -> list[list[int]]:
    """The layers that some networks lack and some have, in groups of those that are only lacked together; first the
    groups that most networks' choices of layers lack."""
    orders = range(len(space.drop_orders))
    kept = [set(space.kept_layers(depth, order)) for depth in space.depths for order in orders]
    groups: dict[tuple[bool, ...], list[int]] = {}
    for layer in range(space.network.depth):
        groups.setdefault(tuple(layer in layers for layers in kept), []).append(layer)
    return [groups[those] for those in sorted(groups, key=sum) if 0 < sum(those) < len(kept)]
