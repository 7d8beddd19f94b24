"""Genomes in batches: the search space's encoding as integer arrays, for samplers, predictors and evolution."""

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from shared.architecture import Architecture
from shared.space import Genome, SearchSpace

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class Encoding:
    """Batches of genomes of one space: int64 arrays of shape (networks, genes), rows as `SearchSpace.genome` makes.

    `genes` is the number of genes, `choices` the number of values of each, shape (genes,).
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.genes = len(space.genes)
        self.choices: IntArray = np.array([gene.choices for gene in space.genes], dtype=np.int64)
        self._depth, self._order = space.place("depth"), list(space.places("drop_order"))
        orders = range(len(space.drop_orders))
        self._first_orders: IntArray = np.array(
            [[space.first_order(depth, order) for order in orders] for depth in space.depths]
        )
        self._effective: BoolArray = np.array(
            [[space.effective(depth, order) for order in orders] for depth in space.depths]
        )

    def encode(self, architectures: Sequence[Architecture]) -> IntArray:
        """Canonical genomes of the architectures. Raises UserError for one that is not in the space."""
        return self.array([self.space.genome(architecture) for architecture in architectures])

    def array(self, genomes: Sequence[Genome]) -> IntArray:
        """The genomes as rows of an array; of shape (0, genes) where there are none."""
        return np.array(genomes, dtype=np.int64).reshape(len(genomes), self.genes)

    def decode(self, genomes: IntArray) -> list[Architecture]:
        """The architectures of the genomes."""
        return [self.space.architecture(genome) for genome in rows(genomes)]

    def canonical(self, genomes: IntArray) -> IntArray:
        """The genomes with genes without effect set to 0, and of orders that leave the same layers the first one, so
        that equal networks have equal rows."""
        canonical: IntArray = genomes * self.effective(genomes)
        canonical[:, self._order] = self._first_orders[self._depth_and_order(genomes)][:, None]
        return canonical

    def effective(self, genomes: IntArray) -> BoolArray:
        """Whether each gene has an effect, shape (networks, genes)."""
        return self._effective[self._depth_and_order(genomes)]

    def kept(self, genomes: IntArray) -> BoolArray:
        """Whether each network has each layer of the super-network, shape (networks, layers)."""
        return self.effective(genomes)[:, self.space.places("mlp_width")]

    def layers(self, genomes: IntArray) -> IntArray:
        """Of each network, one column after the other, what it is held in and what its layers are, shape (networks, 1 +
        layers): equal numbers for equal layers, 0 for one that is left out, and not positive in the first column."""
        widths, skips = list(self.space.places("mlp_width")), list(self.space.places("attention"))
        held = -genomes[:, self.space.places("quantization")].sum(axis=1, keepdims=True)
        kept = self.kept(genomes)
        chosen = genomes[:, widths] + (len(self.space.mlp_widths) * genomes[:, skips] if skips else 0)
        return np.hstack([held, kept * (chosen + 1)])

    def features(self, genomes: IntArray) -> FloatArray:
        """The features that predictors are fitted to, shape (networks, sum of the genes' choices), all 0 or 1.

        Each gene's value is one-hot, in the order of the genes; a gene without effect is all zeros. By which order
        layers leave is no feature: it matters by which layers these are, and their genes say that.
        """
        described = [place for place in range(self.genes) if place not in self._order]
        choices = self.choices[described]
        features = np.zeros((len(genomes), int(choices.sum())))
        columns = np.cumsum(choices) - choices + genomes[:, described]
        np.put_along_axis(features, columns, self.effective(genomes)[:, described], axis=1)
        return features

    def all_genomes(self) -> IntArray:
        """The canonical genomes of all networks, in a fixed order. Only for spaces that fit into memory.

        Of two genes the later one varies slower, and any gene of the whole network slower than those of layers.
        """
        whole = np.array([gene.layer is None for gene in self.space.genes])
        batches = []
        for values in product(*map(range, self.choices[whole][::-1])):
            genome = np.zeros(self.genes, dtype=np.int64)
            genome[whole] = values[::-1]
            if (self.canonical(genome[None]) != genome).any():
                continue
            layered = np.flatnonzero(self.effective(genome[None])[0] & ~whole)
            choices = self.choices[layered].tolist()
            numbers = np.arange(prod(choices), dtype=np.int64)
            batch = np.tile(genome, (len(numbers), 1))
            for index, place in enumerate(layered):
                batch[:, place] = numbers // prod(choices[:index]) % choices[index]
            batches.append(batch)
        return np.concatenate(batches)

    def _depth_and_order(self, genomes: IntArray) -> tuple[IntArray, IntArray]:
        """What decides which layers each network has: the values of both genes, the latter 0 where there is none."""
        return genomes[:, self._depth], genomes[:, self._order].sum(axis=1)


def rows(genomes: IntArray) -> list[Genome]:
    """The genomes as tuples: hashable."""
    return [tuple(row) for row in genomes.tolist()]
