"""An additive accuracy of the networks of the example's kind of space, and searches of it."""

from collections.abc import Iterator
from random import Random

from services.coordinator.cost_model import CostModel
from services.coordinator.pareto import ReferencePoint, hypervolume
from services.coordinator.strategies import Evaluated, make_strategy
from shared.architecture import Architecture
from shared.network.config import network_of
from shared.settings import StrategyName, StrategySettings
from shared.space import SearchSpace
from tests.support.spaces import EXAMPLE


def example_space() -> SearchSpace:
    """30 layers, 3 depths, 3 widths: about 2e14 networks."""
    shape = network_of(EXAMPLE)
    return SearchSpace(shape, depths=(30, 27, 24), mlp_widths=(1536, 1024, 512), drop_order=tuple(range(20, 26)))


class AdditiveAccuracy:
    """Every layer's narrowing and every dropped layer costs accuracy of its own; a few cost most of it.

    `noise` is the standard deviation of a measurement; a network measured twice has the same error.
    """

    def __init__(self, space: SearchSpace, seed: int, noise: float = 0.0) -> None:
        random = Random(seed)
        narrow = [random.expovariate(1 / 0.01) for _ in range(space.network.depth)]
        # A third of the neurons gone costs less than a third of what two thirds do.
        self._width_cost: list[dict[int, float]] = [
            {width: cost * ((1 - width / space.network.mlp_widths[0]) * 1.5) ** 1.5 for width in space.mlp_widths}
            for cost in narrow
        ]
        self._drop_cost = [random.uniform(0.005, 0.03) for _ in range(space.network.depth)]
        self._seed, self._noise = seed, noise

    def exact(self, architecture: Architecture) -> float:
        """Accuracy between 0 and 1 of a network, without noise."""
        widths = zip(architecture.layers, architecture.mlp_widths, strict=True)
        dropped = set(range(len(self._drop_cost))) - set(architecture.layers)
        narrowed = sum(self._width_cost[layer][width] for layer, width in widths)
        return 0.7 - narrowed - sum(self._drop_cost[layer] for layer in sorted(dropped))

    def measured(self, architecture: Architecture) -> float:
        """What an evaluator would report."""
        return self.exact(architecture) + Random(f"{self._seed} {architecture.digest}").gauss(0, self._noise)


def search(name: StrategyName, seed: int, noise: float = 0.0, population: int = 50) -> Iterator[float]:
    """Run a strategy without end; yields the hypervolume after each network."""
    space = example_space()
    accuracy = AdditiveAccuracy(space, seed, noise)
    costs = CostModel(space, ("parameters",), "bfloat16")
    reference = ReferencePoint(costs.of(space.largest()))
    strategy = make_strategy(costs, StrategySettings(strategy=name, population=population, seed=seed))
    sizes: list[tuple[float, ...]] = []
    accuracies: list[float] = []
    while generation := strategy.ask(population):
        for network in generation:
            sizes.append(costs.of(network))
            accuracies.append(accuracy.exact(network))
            yield hypervolume(sizes, accuracies, reference)
        strategy.tell([Evaluated(one, costs.of(one), accuracy.measured(one)) for one in generation])
