"""Strategies: which networks are measured next."""

from collections.abc import Callable, Mapping

from services.coordinator.cost_model import CostModel
from services.coordinator.evaluated import Evaluated
from services.coordinator.strategies.bayesian import BayesianOptimisation
from services.coordinator.strategies.linas import Linas
from services.coordinator.strategies.nsga2 import Nsga2
from services.coordinator.strategies.protocol import Strategy
from services.coordinator.strategies.random_search import RandomSearch
from shared.settings import StrategyName, StrategySettings

__all__ = ["Evaluated", "Strategy", "make_strategy"]

STRATEGIES: Mapping[StrategyName, Callable[[CostModel, StrategySettings], Strategy]] = {
    "bayesian": BayesianOptimisation,
    "linas": Linas,
    "nsga2": Nsga2,
    "random": RandomSearch,
}


def make_strategy(costs: CostModel, settings: StrategySettings) -> Strategy:
    """The strategy that the settings name, at its beginning, for the space and the objectives of a cost model."""
    return STRATEGIES[settings.strategy](costs, settings)
