"""Networks by what was taken away from the largest one, step by step: the features of a predictor that is additive."""

from itertools import pairwise

import numpy as np

from services.coordinator.genomes import BoolArray, Encoding, FloatArray, IntArray


class StepFeatures:
    """Features that are 0 for the largest network and grow with whatever is taken away.

    A gene's values are ordered, 0 is the largest choice: of each gene there is a feature for each step away from that,
    1 if the step was taken. Then, for two layers that follow each other and the same gene of both, `both` and `either`:
    how narrow both are (the product of their narrowness, from 0 to 1) and how narrow either is (what is left of 1 after
    both). A sum of them with weights of at least 0 is a function that never falls while genes rise, and yet two layers
    may cost more together than each by itself (`both`), or less (`either`). A gene without effect has features 0.

    Attributes:
        places: the place in a genome that each step belongs to, shape (steps,).
        steps: the least value of the gene at which the step is taken, shape (steps,).
        pairs: two places for each pair, shape (pairs, 2).
        of_layers: whether each step is one of a layer's gene, shape (steps,).
        weights: what a step takes away, in parameters, those of an average step of all layers' genes being 1; 0 for one
            that takes none, shape (steps,). Steps of one kind of a layer's genes count the same.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        genes = encoding.space.genes
        varying = [(place, step) for place, gene in enumerate(genes) for step in range(1, gene.choices)]
        self.places: IntArray = np.array([place for place, _ in varying], np.int64)
        self.steps: IntArray = np.array([step for _, step in varying], np.int64)
        kinds = dict.fromkeys(gene.kind for gene in genes if gene.layer is not None and gene.choices > 1)
        self.pairs: IntArray = np.array(
            [pair for kind in kinds for pair in pairwise(encoding.space.places(kind))], np.int64
        ).reshape(-1, 2)
        self.of_layers: BoolArray = np.array([genes[place].layer is not None for place in self.places], bool)
        self.weights = self._weights()

    @property
    def count(self) -> int:
        """Number of features: the steps, then `both` of all pairs, then `either`."""
        return len(self.places) + 2 * len(self.pairs)

    def of(self, genomes: IntArray) -> FloatArray:
        """The features, shape (networks, features), each from 0 to 1."""
        genomes = self.encoding.canonical(genomes)
        taken = (genomes[:, self.places] >= self.steps).astype(np.float64)
        narrowness = genomes / np.maximum(self.encoding.choices - 1, 1)
        one, other = narrowness[:, self.pairs[:, 0]], narrowness[:, self.pairs[:, 1]]
        effective = self.encoding.effective(genomes)
        present = effective[:, self.pairs[:, 0]] & effective[:, self.pairs[:, 1]]
        both = present * (one * other)
        return np.hstack([taken, both, present * (one + other) - both])

    def _weights(self) -> FloatArray:
        space = self.encoding.space
        narrowing = space.parameters(space.largest()) - space.parameters(space.smallest(space.depths[0]))
        deepest = [space.parameters(space.largest(depth)) for depth in space.depths]
        layers = space.depths[0] - space.depths[-1]
        unit = narrowing / self.of_layers.sum() if narrowing else (deepest[0] - deepest[-1]) / (layers or 1)
        weights = self.of_layers.astype(np.float64)
        for kind in dict.fromkeys(space.genes[place].kind for place in self.places[self.of_layers]):
            places = space.places(kind)
            narrowest = np.zeros(len(space.genes), np.int64)
            narrowest[list(places)] = [space.genes[place].choices - 1 for place in places]
            taken = deepest[0] - space.parameters(space.architecture(narrowest.tolist()))
            steps = np.isin(self.places, places)
            weights[steps] = taken / steps.sum() / unit
        for index in np.flatnonzero(self.places == space.place("depth")):
            step = self.steps[index]
            weights[index] = (deepest[step - 1] - deepest[step]) / unit
        return weights
