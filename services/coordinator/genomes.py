"""Genomes in batches: the search space's encoding as integer arrays, for samplers, predictors and evolution."""

from collections.abc import Sequence

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
        layers = range(space.shape.layers)
        kept = [set(space.kept_layers(depth)) for depth in space.depths]
        self._kept = np.array([[layer in layers_of for layer in layers] for layers_of in kept])
        self._depths = np.array(space.depths, dtype=np.int64)
        self._mlp_parameters = np.array(
            [space.shape.mlp_parameters(width) for width in space.mlp_widths], dtype=np.int64
        )

    @property
    def genes(self) -> int:
        """Number of genes: the depth's and one for each layer of the super-network."""
        return 1 + self.space.shape.layers

    @property
    def choices(self) -> IntArray:
        """Number of values of each gene, shape (genes,)."""
        return np.array(
            [len(self.space.depths)] + [len(self.space.mlp_widths)] * self.space.shape.layers, dtype=np.int64
        )

    def encode(self, architectures: Sequence[Architecture]) -> IntArray:
        """Canonical genomes of the architectures. Raises UserError for one that is not in the space."""
        rows = [self.space.genome(architecture) for architecture in architectures]
        return np.array(rows, dtype=np.int64).reshape(len(rows), self.genes)

    def decode(self, genomes: IntArray) -> list[Architecture]:
        """The architectures of the genomes."""
        return [self.space.architecture(genome) for genome in rows(genomes)]

    def canonical(self, genomes: IntArray) -> IntArray:
        """The genomes with genes without effect set to 0, so that equal networks have equal rows."""
        result = genomes.copy()
        result[:, 1:] *= self._kept[genomes[:, 0]]
        return result

    def parameters(self, genomes: IntArray) -> IntArray:
        """Exact number of parameters of each network, shape (networks,); equal to `SearchSpace.parameters`."""
        shape = self.space.shape
        mlps = np.where(self._kept[genomes[:, 0]], self._mlp_parameters[genomes[:, 1:]], 0).sum(axis=1)
        sizes: IntArray = shape.embedding_parameters + self._depths[genomes[:, 0]] * shape.attention_parameters + mlps
        return sizes

    def features(self, genomes: IntArray) -> FloatArray:
        """What a predictor sees, shape (networks, depths + layers * widths), all 0 or 1.

        One-hot depth, then for each layer its one-hot width; a layer that the network lacks is all zeros.
        """
        depth = np.eye(len(self.space.depths))[genomes[:, 0]]
        width = np.eye(len(self.space.mlp_widths))[genomes[:, 1:]] * self._kept[genomes[:, 0]][:, :, None]
        return np.hstack([depth, width.reshape(len(genomes), -1)])

    def every(self) -> IntArray:
        """The canonical genomes of all networks, in a fixed order. Only for spaces that fit into memory."""
        widths = len(self.space.mlp_widths)
        batches = []
        for gene, depth in enumerate(self.space.depths):
            numbers = np.arange(widths**depth, dtype=np.int64)
            batch = np.zeros((len(numbers), self.genes), dtype=np.int64)
            batch[:, 0] = gene
            for digit, layer in enumerate(self.space.kept_layers(depth)):
                batch[:, 1 + layer] = numbers // widths**digit % widths
            batches.append(batch)
        return np.concatenate(batches)


def rows(genomes: IntArray) -> list[Genome]:
    """The genomes as tuples: hashable."""
    return [tuple(row) for row in genomes.tolist()]
