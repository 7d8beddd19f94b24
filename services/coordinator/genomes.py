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
        self._depth = space.place("depth")
        self._effective: BoolArray = np.array([space.effective(depth) for depth in space.depths])

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
        """The genomes with genes without effect set to 0, so that equal networks have equal rows."""
        return genomes * self.effective(genomes)

    def effective(self, genomes: IntArray) -> BoolArray:
        """Whether each gene has an effect, shape (networks, genes)."""
        return self._effective[genomes[:, self._depth]]

    def layers(self, genomes: IntArray) -> IntArray:
        """Of each network, one column after the other, what it is held in and what its layers are, shape (networks, 1 +
        layers): equal numbers for equal layers, 0 for one that is left out, and not positive in the first column."""
        widths, skips = list(self.space.places("mlp_width")), list(self.space.places("attention"))
        held = -genomes[:, self.space.places("quantization")].sum(axis=1, keepdims=True)
        kept = self.effective(genomes)[:, widths]
        chosen = genomes[:, widths] + (len(self.space.mlp_widths) * genomes[:, skips] if skips else 0)
        return np.hstack([held, kept * (chosen + 1)])

    def features(self, genomes: IntArray) -> FloatArray:
        """The features that predictors are fitted to, shape (networks, sum of all genes' choices), all 0 or 1.

        Each gene's value is one-hot, in the order of the genes; a gene without effect is all zeros.
        """
        features = np.zeros((len(genomes), int(self.choices.sum())))
        columns = np.cumsum(self.choices) - self.choices + genomes
        np.put_along_axis(features, columns, self.effective(genomes), axis=1)
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
            layered = np.flatnonzero(self.effective(genome[None])[0] & ~whole)
            choices = self.choices[layered].tolist()
            numbers = np.arange(prod(choices), dtype=np.int64)
            batch = np.tile(genome, (len(numbers), 1))
            for index, place in enumerate(layered):
                batch[:, place] = numbers // prod(choices[:index]) % choices[index]
            batches.append(batch)
        return np.concatenate(batches)


def rows(genomes: IntArray) -> list[Genome]:
    """The genomes as tuples: hashable."""
    return [tuple(row) for row in genomes.tolist()]
