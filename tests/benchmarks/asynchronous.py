"""What `search.asynchronous` saves of evaluators' time and what it costs, on a simulated farm of unequal evaluators.

    python -m tests.benchmarks.asynchronous
    python -m tests.benchmarks.asynchronous --strategy linas --evaluations 48 --seeds 5 --slowness 1 1 4

Each evaluator takes so many times longer than the fastest; an evaluation takes the longer, the larger the network is,
and varies by a tenth besides. Messages and the strategy's thinking take no time. The accuracies are synthetic
(`tests.support.synthetic`). Printed are medians over seeds: the time of the whole search, compared with generations;
the share of it that the evaluators compute; and the share of the exact front's hypervolume that was found after all
evaluations, and by the time at which the asynchronous search was done.
"""

import argparse
import heapq
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import Literal, get_args

import numpy as np

from services.coordinator.genomes import IntArray
from shared.settings import StrategyName
from tests.support.search_peers import OurStrategy
from tests.support.synthetic import SyntheticAccuracy

Mode = Literal["generations", "overlap", "asynchronous"]
SLOWNESS = (1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 4.0)
JITTER = 0.1
ITEMS = 400


@dataclass
class Farm:
    """Evaluators, the networks that wait for them, and those that they have measured, with the times of their ends."""

    slowness: list[float]
    rng: np.random.Generator
    now: float = 0.0
    computed: float = 0.0
    waiting: deque[tuple[int, float]] = field(default_factory=deque)
    running: list[tuple[float, int, int]] = field(default_factory=list)
    finished: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._idle = list(range(len(self.slowness)))

    def next(self) -> int:
        """The number of the network that is measured next."""
        while self._idle and self.waiting:
            evaluator, (number, size) = self._idle.pop(0), self.waiting.popleft()
            seconds = size * self.slowness[evaluator] * float(np.exp(JITTER * self.rng.standard_normal()))
            self.computed += seconds
            heapq.heappush(self.running, (self.now + seconds, evaluator, number))
        self.now, evaluator, number = heapq.heappop(self.running)
        self._idle.append(evaluator)
        self.finished.append((self.now, number))
        return number


class Search:
    """A search of `accuracy` in a mode, with as many networks in a generation, or under way, as `population` says."""

    def __init__(
        self,
        mode: Mode,
        strategy: StrategyName,
        accuracy: SyntheticAccuracy,
        seed: int,
        slowness: list[float],
        population: int,
        evaluations: int,
    ) -> None:
        self._accuracy, self._evaluations = accuracy, evaluations
        self._strategy = OurStrategy(strategy, population, accuracy.costs, seed)
        self._genomes: list[IntArray] = []
        self.farm, self.thinking = Farm(slowness, np.random.default_rng(seed)), 0.0
        if mode == "asynchronous":
            self._ask(population)
            while len(self.farm.finished) < evaluations:
                self._tell([self.farm.next()])
                self._ask(1)
            return
        generations, ahead, done = deque([self._ask(population)]), int(mode == "overlap"), set[int]()
        while generations:
            while len(generations) <= ahead and (further := self._ask(population)):
                generations.append(further)
            while not done.issuperset(generations[0]):
                done.add(self.farm.next())
            self._tell(generations.popleft())
            if not generations and (further := self._ask(population)):
                generations.append(further)

    @property
    def busy(self) -> float:
        """The share of the time that evaluators compute."""
        return self.farm.computed / (self.farm.now * len(self.farm.slowness))

    def share(self, until: float) -> float:
        """The share of the exact front's hypervolume that was found by then."""
        genomes = np.array([self._genomes[number] for moment, number in self.farm.finished if moment <= until])
        costs = self._accuracy.costs.of_genomes(genomes)
        return self._accuracy.share(costs, self._accuracy.measured(genomes), self._accuracy.exact(genomes))

    def _ask(self, count: int) -> list[int]:
        """Have other networks measured; their numbers."""
        began = time.process_time()
        asked = self._strategy.ask(min(count, self._evaluations - len(self._genomes)))
        self.thinking += time.process_time() - began
        numbers = list(range(len(self._genomes), len(self._genomes) + len(asked)))
        self._genomes += list(asked)
        largest = max(self._accuracy.costs.of(self._accuracy.space.largest()))
        sizes = (self._accuracy.costs.of_genomes(asked)[:, 0] / largest).tolist() if len(asked) else []
        self.farm.waiting.extend(zip(numbers, sizes, strict=True))
        return numbers

    def _tell(self, numbers: list[int]) -> None:
        evaluated = self._accuracy.measure(np.array([self._genomes[number] for number in numbers]))
        began = time.process_time()
        self._strategy.tell(evaluated)
        self.thinking += time.process_time() - began


def main() -> None:
    """Print a line for each mode."""
    parser = argparse.ArgumentParser(prog="asynchronous")
    parser.add_argument("--strategy", default="bayesian", choices=get_args(StrategyName))
    parser.add_argument("--function", default="B", choices=("A", "B", "C"))
    parser.add_argument("--space", default="S1", choices=("S1", "S2"))
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--population", type=int, help="default: twice the number of evaluators")
    parser.add_argument("--slowness", type=float, nargs="+", default=list(SLOWNESS), metavar="TIMES")
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    population = given.population or 2 * len(given.slowness)
    searches: dict[Mode, list[Search]] = {mode: [] for mode in get_args(Mode)}
    for seed in range(given.seeds):
        accuracy = SyntheticAccuracy(given.function, given.space, seed, ITEMS)
        for mode, some in searches.items():
            print(f"\rseed {seed}, {mode}" + " " * 20, end="", file=sys.stderr, flush=True)
            some.append(Search(mode, given.strategy, accuracy, seed, given.slowness, population, given.evaluations))
    print("\r" + " " * 40 + "\r", end="", file=sys.stderr, flush=True)
    print(
        f"{given.strategy}, {given.function}/{given.space}, {len(given.slowness)} evaluators, population {population}, "
        f"{given.evaluations} evaluations, {given.seeds} seeds"
    )
    print(f"{'':14}{'time':>8}{'busy':>8}{'found':>8}{'found by then':>16}{'thinking':>10}")
    for mode, some in searches.items():
        beside = list(zip(some, searches["generations"], searches["asynchronous"], strict=True))
        columns = (
            f"{median(one.farm.now / usual.farm.now for one, usual, _ in beside):8.2f}",
            f"{median(one.busy for one in some):8.1%}",
            f"{median(one.share(one.farm.now) for one in some):8.1%}",
            f"{median(one.share(last.farm.now) for one, _, last in beside):16.1%}",
            f"{median(one.thinking for one in some):8.1f} s",
        )
        print(f"{mode:14}{''.join(columns)}", flush=True)


if __name__ == "__main__":
    main()
