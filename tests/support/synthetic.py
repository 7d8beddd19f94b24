"""Synthetic accuracies of all networks of a space, with exact fronts: what strategies are compared on."""

import zlib
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from services.coordinator.genomes import BoolArray, FloatArray, IntArray
from services.coordinator.pareto import ReferencePoint, hypervolume, non_dominated
from services.coordinator.strategies.exact_front import best_by_counts
from shared.network.config import network_of
from shared.space import SearchSpace
from tests.support.known_accuracy import KnownAccuracy
from tests.support.spaces import EXAMPLE, PAPER_SPACE

FunctionName = Literal["A", "B", "C"]
SpaceName = Literal["S1", "S2"]

SPACES: dict[SpaceName, SearchSpace] = {
    "S1": SearchSpace(network_of(EXAMPLE), (30, 29, 28), (1536, 1152, 768), tuple(range(20, 26))),
    "S2": PAPER_SPACE,
}
"""The example's and LLaMA-NAS's for LLaMA2-7B."""
TOTAL_LOSS: dict[SpaceName, float] = {"S1": 0.40, "S2": 0.35}
"""What it costs to make all layers as narrow as can be."""
STEP_LOSSES = {2: (0.0, 1.0), 3: (0.0, 0.35, 1.0)}
"""The share of a layer's loss at each of its widths."""
SENSITIVITY_SPREAD = 1.2
DROPPED = 1.2
PAIR_MEAN, PAIR_SCALE, ANY_PAIRS = 0.25, 0.6, 40
DENSE, CHANCE, DEVIATION = 0.83, 0.25, 0.006
NOT_SHARED, BY_GENES = 0.06, 0.5
"""Of what decides on an item, the part that differs between networks; the part of that which their genes decide, so
that networks that are alike err alike. Equally good networks differ on 8.5 % of items."""
NATS, SURENESS_SPREAD = 6.4, 0.3
"""Standard deviation of a network's margins over items: its median as that of the example's networks on ARC-Easy, and
its spread such that the mean sigmoid of the margins has half the noise variance of the accuracy, as there."""


class SyntheticAccuracy(KnownAccuracy):
    """A function of the networks of a space, and what is measured of it with a number of items.

    A is additive: layers' losses are log-normal, the first counts twice and the last one and a half times. B adds what
    two neighbours cost more (or less) together, and is bounded by chance; each network deviates a little. C is B with
    pairs of any layers instead of neighbours. A has no deviation.

    `items` is how many binary answers a measurement is the mean of; None for exact measurements.
    """

    def __init__(self, function: FunctionName, space: SpaceName, seed: int, items: int | None, slices: int = 1) -> None:
        super().__init__(SPACES[space], items, slices)
        self._function, self._seed = function, seed
        rng = np.random.default_rng([seed, "AB".find(function.replace("C", "B")), len(space)])
        layers, widths = self.space.network.depth, len(self.space.mlp_widths)
        self._widths = list(self.space.places("mlp_width"))
        sensitivity = rng.lognormal(0, SENSITIVITY_SPREAD, layers)
        sensitivity[0] *= 2
        sensitivity[-1] *= 1.5
        sensitivity *= TOTAL_LOSS[space] / sensitivity.sum()
        dropped = rng.lognormal(0, SENSITIVITY_SPREAD, layers)
        self._single = np.outer(sensitivity, STEP_LOSSES[widths])
        self._dropped = DROPPED * TOTAL_LOSS[space] * dropped / dropped.sum()
        pairs = [(layer, layer + 1) for layer in range(layers - 1)]
        if function == "C":
            pairs = [tuple(sorted(rng.choice(layers, 2, replace=False).tolist())) for _ in range(ANY_PAIRS)]
        self._pairs = np.array(pairs)
        between = np.sqrt(sensitivity[self._pairs[:, 0]] * sensitivity[self._pairs[:, 1]])
        self._together = rng.normal(PAIR_MEAN, 1, len(pairs)) * PAIR_SCALE * between * (function != "A")
        self._latent = None if items is None else _Items(rng, layers, widths, items)

    def loss(self, genomes: IntArray) -> FloatArray:
        """The sum of all losses, shape (networks,): before anything bounds them."""
        kept = self._encoding.effective(genomes)[:, self._widths]
        chosen = genomes[:, self._widths]
        narrowness = kept * chosen / (self._single.shape[1] - 1)
        single = (kept * self._single[np.arange(len(self._single)), chosen]).sum(axis=1)
        dropped = (~kept * self._dropped).sum(axis=1)
        one, other = narrowness[:, self._pairs[:, 0]], narrowness[:, self._pairs[:, 1]]
        total: FloatArray = single + dropped + (one * other) @ self._together
        return total

    def expected(self, genomes: IntArray) -> FloatArray:
        """Accuracies without what is peculiar to each network, shape (networks,)."""
        if self._function == "A":
            return DENSE - self.loss(genomes)
        share = (DENSE - CHANCE) / (1 - CHANCE)
        slope = 1 / ((1 - CHANCE) * share * (1 - share))  # a small loss costs as much accuracy
        bounded: FloatArray = expit(np.log(share / (1 - share)) - slope * self.loss(genomes))
        return CHANCE + (1 - CHANCE) * bounded

    def exact(self, genomes: IntArray) -> FloatArray:
        """Accuracies on infinitely many items, shape (networks,)."""
        if self._function == "A":
            return self.expected(genomes)
        deviations = np.array([self._rng(row).standard_normal() for row in genomes])
        return self.expected(genomes) + DEVIATION * deviations

    def measured(self, genomes: IntArray) -> FloatArray:
        """Accuracies as they are measured on all items, shape (networks,)."""
        return self.exact(genomes) if self.items is None else (self.margins(genomes) > 0).mean(axis=1)

    def answers(self, genomes: IntArray) -> tuple[BoolArray, FloatArray]:
        margins = self.margins(genomes)
        return margins > 0, expit(margins)

    def margins(self, genomes: IntArray) -> FloatArray:
        """By how much the right answer to each item wins, in nats, shape (networks, items). Only where items are
        counted."""
        assert self._latent is not None
        kept = self._encoding.effective(genomes)[:, self._widths]
        drawn = np.array([self._rng(row).standard_normal((2, self._latent.count)) for row in genomes])
        latent = self._latent.latent(genomes[:, self._widths], kept, drawn[:, 1])
        sureness = NATS * np.exp(SURENESS_SPREAD * drawn[:, 0, 1:2])
        margins: FloatArray = sureness * (norm.ppf(self.exact(genomes).clip(0, 1))[:, None] - latent)
        return margins

    def share(self, costs: FloatArray, chosen_by: FloatArray, exact: FloatArray) -> float:
        """Of the hypervolume of the exact front."""
        chosen = non_dominated(costs, chosen_by)
        return hypervolume(costs[chosen], exact[chosen], self._reference) / self._whole

    @cached_property
    def front(self) -> IntArray:
        """The front of expected accuracies: exact for A and B, for C the best that local search finds."""
        found = best_by_counts(self._encoding, lambda genomes: -self.loss(genomes)[None])[0]
        if self._function == "C":
            found = self._improved(found[non_dominated(self.costs.of_genomes(found), self.expected(found))])
        best: IntArray = found[non_dominated(self.costs.of_genomes(found), self.expected(found))]
        return best

    @cached_property
    def _reference(self) -> ReferencePoint:
        dearest = max(self.costs.of(self.space.largest()))
        return ReferencePoint((dearest,), 1.001, float(self.expected(self.front).min()) - 0.002)

    @cached_property
    def _whole(self) -> float:
        return hypervolume(self.costs.of_genomes(self.front), self.expected(self.front), self._reference)

    def _improved(self, genomes: IntArray) -> IntArray:
        """Networks after exchanging the widths of any two layers for as long as that helps."""
        improved = []
        for row in genomes:
            genome = row.copy()
            kept = np.array(self._widths)[self._encoding.effective(genome[None])[0, self._widths]]
            one, other = (kept[index] for index in np.triu_indices(len(kept), 1))
            while True:
                tried = np.tile(genome, (len(one), 1))
                numbers = np.arange(len(one))
                tried[numbers, one], tried[numbers, other] = genome[other], genome[one]
                losses = self.loss(tried)
                if losses.min() >= self.loss(genome[None])[0] - 1e-9:
                    break
                genome = tried[losses.argmin()]
            improved.append(genome)
        return np.array(improved)

    def _rng(self, genome: IntArray) -> np.random.Generator:
        return np.random.default_rng([self._seed, zlib.crc32(genome.tobytes())])


class _Items:
    """Questions with a latent Gaussian for each answer: part is the question's, part is what layers make of it, and
    part is the network's own."""

    def __init__(self, rng: np.random.Generator, layers: int, widths: int, count: int) -> None:
        self.count = count
        self._common = rng.standard_normal(count)
        self._of_genes = rng.standard_normal((layers, widths + 1, count))

    def latent(self, widths: IntArray, kept: BoolArray, own: FloatArray) -> FloatArray:
        """How hard each item is for each network, shape (networks, items), as `own`, the networks' own part."""
        choices = np.where(kept, widths, self._of_genes.shape[1] - 1)
        layers = np.arange(len(self._of_genes))
        by_genes = np.array([self._of_genes[layers, row].sum(axis=0) for row in choices]) / len(layers) ** 0.5
        apart = BY_GENES**0.5 * by_genes + (1 - BY_GENES) ** 0.5 * own
        hardness: FloatArray = (1 - NOT_SHARED) ** 0.5 * self._common + NOT_SHARED**0.5 * apart
        return hardness
