"""What strategies with a predictor have in common: what it says of the networks that are asked for is known."""

from collections.abc import Mapping
from typing import Protocol

from services.coordinator.cost_model import CostModel
from services.coordinator.genomes import FloatArray, IntArray
from services.coordinator.strategies.generational import GenerationalStrategy
from shared.architecture import Architecture
from shared.settings import StrategySettings


class AccuracyPredictor(Protocol):
    """Says how accurate networks are, shape (networks,), from their genomes, shape (networks, genes)."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def predict(self, genomes: IntArray) -> FloatArray: ...


class PredictingStrategy(GenerationalStrategy):
    """A strategy that sets `_predictor` when it proposes genomes."""

    def __init__(self, costs: CostModel, settings: StrategySettings) -> None:
        super().__init__(costs, settings)
        self._predictor: AccuracyPredictor | None = None
        self._predictions: dict[Architecture, float] = {}

    @property
    def predictions(self) -> Mapping[Architecture, float]:
        return self._predictions

    @property
    def predictor_name(self) -> str | None:
        return None if self._predictor is None else self._predictor.name

    def ask(self, limit: int) -> list[Architecture]:
        architectures = super().ask(limit)
        if self._predictor is not None:
            predicted = self._predictor.predict(self._encoding.encode(architectures))
            self._predictions = dict(zip(architectures, predicted.tolist(), strict=True))
        return architectures
