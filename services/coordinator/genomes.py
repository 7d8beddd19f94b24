"""Genomes in batches: the search space's encoding as integer arrays, for samplers, predictors and evolution."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from shared.architecture import Architecture
from shared.space import Genome, SearchSpace

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


class Encoding:
    """Batches of genomes of one space: int64 arrays of shape (networks, genes), rows as `SearchSpace.genome` makes."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        layers = range(space.network.depth)
        kept = [set(space.kept_layers(depth)) for depth in space.depths]
        self._kept = np.array([[layer in layers_of for layer in layers] for layers_of in kept])

    @property
    def genes(self) -> int:
        """Number of genes: the depth's, one for each layer of the super-network, and the quantization's."""
        return self.space.network.depth + 2

    @property
    def choices(self) -> IntArray:
        """Number of values of each gene, shape (genes,)."""
        widths = [len(self.space.mlp_widths)] * self.space.network.depth
        return np.array([len(self.space.depths), *widths, len(self.space.quantizations)], dtype=np.int64)

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
        result = genomes.copy()
        result[:, 1:-1] *= self._kept[genomes[:, 0]]
        return result

    def layers_of_width(self, genomes: IntArray) -> IntArray:
        """How many layers of each network have each of the space's widths, shape (networks, widths)."""
        layers: IntArray = self._widths(genomes).sum(axis=1)
        return layers

    def features(self, genomes: IntArray) -> FloatArray:
        """What a predictor sees, shape (networks, depths + layers * widths + quantizations), all 0 or 1.

        One-hot depth, for each layer its one-hot width, one-hot quantization; a layer that the network lacks is all
        zeros.
        """
        depth = np.eye(len(self.space.depths))[genomes[:, 0]]
        width = self._widths(genomes).reshape(len(genomes), -1)
        return np.hstack([depth, width, np.eye(len(self.space.quantizations))[genomes[:, -1]]])

    def every(self) -> IntArray:
        """The canonical genomes of all networks, in a fixed order. Only for spaces that fit into memory."""
        widths = len(self.space.mlp_widths)
        batches = []
        for quantization, (gene, depth) in product(range(len(self.space.quantizations)), enumerate(self.space.depths)):
            numbers = np.arange(widths**depth, dtype=np.int64)
            batch = np.zeros((len(numbers), self.genes), dtype=np.int64)
            batch[:, 0], batch[:, -1] = gene, quantization
            for digit, layer in enumerate(self.space.kept_layers(depth)):
                batch[:, 1 + layer] = numbers // widths**digit % widths
            batches.append(batch)
        return np.concatenate(batches)

    def _widths(self, genomes: IntArray) -> IntArray:
        """One-hot width of each layer, all 0 where the network lacks it, shape (networks, layers, widths)."""
        one_hot = np.eye(len(self.space.mlp_widths), dtype=np.int64)[genomes[:, 1:-1]]
        kept: IntArray = one_hot * self._kept[genomes[:, 0]][:, :, None]
        return kept


def rows(genomes: IntArray) -> list[Genome]:
    """The genomes as tuples: hashable."""
    return [tuple(row) for row in genomes.tolist()]
