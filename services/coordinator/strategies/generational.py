"""What the strategies have in common: they remember what was asked and told, and fill every generation."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from services.coordinator.cost_model import CostModel
from services.coordinator.evaluated import Evaluated
from services.coordinator.genomes import Encoding, FloatArray, IntArray, rows
from services.coordinator.strategies.stratified_sampling import stratified_sample
from shared.architecture import Architecture
from shared.settings import StrategySettings
from shared.space import Genome

MIN_MEASURED = 2
"""Measured networks needed before anything can be learnt from them."""


class GenerationalStrategy(ABC):
    """A strategy that proposes genomes for each generation; everything else is done here.

    Known networks are left out, and a stratified random sample fills the generation: all of the first.
    """

    def __init__(self, costs: CostModel, settings: StrategySettings) -> None:
        self._costs = costs
        self._encoding = Encoding(costs.space)
        self._settings = settings
        self._known: set[Genome] = set()
        self._evaluated: dict[Genome, Evaluated] = {}
        self._drawn: AbstractSet[Architecture] = frozenset()

    @property
    def predictions(self) -> Mapping[Architecture, float]:
        return {}

    @property
    def predictor_name(self) -> str | None:
        return None

    @property
    def drawn(self) -> AbstractSet[Architecture]:
        return self._drawn

    def ask(self, limit: int) -> list[Architecture]:
        count = min(limit, self._settings.population)
        if count < 1:
            return []
        # Each generation has a random stream of its own, whatever earlier ones drew.
        rng = np.random.default_rng([self._settings.seed % 2**64, len(self._known)])
        chosen = self._unknown(self._propose(count, rng))[:count] if self._measured_enough else []
        drawn = rows(
            stratified_sample(self._encoding, self._costs, count - len(chosen), self._known | set(chosen), rng)
        )
        self._known.update(chosen, drawn)
        self._drawn = frozenset(map(self._encoding.space.architecture, drawn))
        return [self._encoding.space.architecture(genome) for genome in (*chosen, *drawn)]

    def tell(self, evaluated: Sequence[Evaluated]) -> None:
        genomes = [self._encoding.space.genome(one.architecture) for one in evaluated]
        for genome, one in zip(genomes, evaluated, strict=True):
            self._known.add(genome)
            if genome not in self._evaluated or self._evaluated[genome].accuracy is None:
                self._evaluated[genome] = one

    @abstractmethod
    def _propose(self, count: int, rng: np.random.Generator) -> IntArray:
        """Genomes for the next generation, the best first, shape (any number, genes).

        Only called when `MIN_MEASURED` networks were measured. Known ones and duplicates are tolerated.
        """

    @property
    def _measured_enough(self) -> bool:
        return len(self._measured_networks) >= MIN_MEASURED

    def _measured(self) -> tuple[IntArray, FloatArray, FloatArray]:
        """Genomes (networks, genes), costs (networks, objectives) and accuracies (networks,) of the measured networks,
        as told."""
        measured = self._measured_networks
        genomes = self._encoding.encode([one.architecture for one in measured])
        costs = np.array([one.costs for one in measured], np.float64)
        return genomes, costs, np.array([one.accuracy for one in measured], np.float64)

    @property
    def _measured_networks(self) -> list[Evaluated]:
        """The measured networks, in the order in which they were told."""
        return [one for one in self._evaluated.values() if one.accuracy is not None]

    def _unknown(self, genomes: IntArray) -> list[Genome]:
        """Those genomes that were neither asked nor told, without duplicates, in order."""
        return list(dict.fromkeys(genome for genome in rows(genomes) if genome not in self._known))
