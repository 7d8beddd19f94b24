"""Strategies: which networks are measured next."""

from collections.abc import Callable, Mapping

from services.coordinator.strategies.linas import Linas
from services.coordinator.strategies.nsga2 import Nsga2
from services.coordinator.strategies.protocol import Evaluated, Strategy
from services.coordinator.strategies.random_search import RandomSearch
from shared.settings import StrategyName, StrategySettings
from shared.space import SearchSpace

__all__ = ["Evaluated", "Strategy", "make_strategy"]

STRATEGIES: Mapping[StrategyName, Callable[[SearchSpace, StrategySettings], Strategy]] = {
    "linas": Linas,
    "nsga2": Nsga2,
    "random": RandomSearch,
}


def make_strategy(space: SearchSpace, settings: StrategySettings) -> Strategy:
    """The strategy that the settings name, at its beginning."""
    return STRATEGIES[settings.strategy](space, settings)
