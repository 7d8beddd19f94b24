"""How much of the exact front strategies find with few measurements, on synthetic accuracies.

    python -m tests.benchmarks.strategies
    python -m tests.benchmarks.strategies --strategies bayesian linas-50 --cases B/S1 --seeds 3 --budgets 48 100

A case is a function (A, B or C: `tests.support.synthetic`) of a space (S1, the example's: 30 layers, three depths,
three widths; S2, LLaMA-NAS's for LLaMA2-7B). Printed is the share of the exact front's hypervolume that those networks
have which would be chosen by what was measured (with `bayesian`, by what is estimated from it), with what is true of
them, in %: the median over seeds, and quartiles. Each evaluation counts. `to 93%` is the number of evaluations after
which that was reached, `thinking` the processor time that the strategy itself took, in seconds. With `--items 100` and
four times the budgets, as many items are read for more networks.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from functools import lru_cache
from statistics import median
from typing import get_args

import numpy as np

from services.coordinator.genomes import FloatArray, IntArray
from tests.support.search_peers import SEARCHERS, missing
from tests.support.synthetic import FunctionName, SpaceName, SyntheticAccuracy

BUDGETS = (48, 100, 250)
CASES = ("A/S1", "A/S2", "B/S1", "B/S2", "C/S1", "C/S2")
ITEMS = 400
MARKS = {"B/S1": 0.93}
"""What DyNAS-T's own LINAS (population 50) reached with 250 evaluations, measured once; it had 67 and 85 % with 48 and
100. It is not installed with the benchmark."""


class Course:
    """A search of one accuracy with one seed: the share that was reached after each generation, by evaluations."""

    def __init__(self, strategy: str, case: str, seed: int, budgets: Sequence[int], items: int | None) -> None:
        self._accuracy = _accuracy(case, seed, items)
        self._searcher = SEARCHERS[strategy](self._accuracy.costs, seed)
        self.thinking = 0.0
        self.shares: dict[int, float] = {}
        costs, measured, exact = np.empty((0, 1)), np.empty(0), np.empty(0)
        while len(measured) < max(budgets):
            # A generation is cut short at each budget, as if the search ended there.
            genomes, answers = self._generation(min(left for one in budgets if (left := one - len(measured)) > 0))
            costs = np.concatenate([costs, self._accuracy.costs.of_genomes(genomes)])
            measured = np.concatenate([measured, answers])
            exact = np.concatenate([exact, self._accuracy.exact(genomes)])
            chosen_by = self._searcher.chosen_by(measured)
            self.shares[len(measured)] = self._accuracy.share(costs, chosen_by, exact)

    def evaluations_to(self, mark: float) -> float:
        """Evaluations until the share was reached; infinite if it never was."""
        return min((number for number, share in self.shares.items() if share >= mark), default=float("inf"))

    def _generation(self, limit: int) -> tuple[IntArray, FloatArray]:
        """The next networks, shape (networks, genes), and their measured accuracies (networks,)."""
        began = time.process_time()
        genomes = self._searcher.ask(limit)
        self.thinking += time.process_time() - began
        costs, measured = self._accuracy.costs.of_genomes(genomes), self._accuracy.measured(genomes)
        sureness = self._accuracy.sureness(genomes)
        began = time.process_time()
        self._searcher.tell(genomes, costs, measured, sureness)
        self.thinking += time.process_time() - began
        return genomes, measured


@lru_cache(maxsize=64)
def _accuracy(case: str, seed: int, items: int | None) -> SyntheticAccuracy:
    function, space = case.split("/")
    if function not in get_args(FunctionName) or space not in get_args(SpaceName):
        raise SystemExit(f"--cases {case}: choose from {' '.join(CASES)}")
    return SyntheticAccuracy(function, space, seed, items)  # type: ignore[arg-type]


def row(courses: Sequence[Course], budgets: Sequence[int], mark: float | None) -> str:
    """What several seeds of a search of one case gave."""
    columns = []
    for budget in budgets:
        low, middle, high = np.percentile([100 * course.shares[budget] for course in courses], [25, 50, 75])
        columns.append(f"{middle:7.1f} ({low:.1f}-{high:.1f})")
    if mark is not None:
        needed = median(course.evaluations_to(mark) for course in courses)
        columns.append(f"{'never' if needed == float('inf') else f'{needed:.0f}':>12}")
    return "".join(f"{column:>20}" for column in columns) + f"{median(one.thinking for one in courses):10.1f}"


def main() -> None:
    """Print a table for each case."""
    parser = argparse.ArgumentParser(prog="strategies")
    parser.add_argument("--strategies", nargs="+", default=list(SEARCHERS), choices=list(SEARCHERS), metavar="NAME")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES, metavar="CASE")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--budgets", nargs="+", type=int, default=list(BUDGETS), metavar="EVALUATIONS")
    parser.add_argument("--items", type=int, default=ITEMS, help="items of a measurement; 0: measured exactly")
    parser.add_argument("--mark", type=float, help="share, in %%, that evaluations are counted to")
    given = parser.parse_args()
    for name in missing(given.strategies):
        print(f"{name}: left out, as optuna isn't installed")
    names = [name for name in given.strategies if name not in missing(given.strategies)]
    for case in given.cases:
        mark = given.mark / 100 if given.mark else MARKS.get(case)
        print(f"\n{case}, {given.items or 'infinitely many'} items, {given.seeds} seeds")
        heads = [*(f"{budget} evaluations" for budget in given.budgets), *([f"to {mark:.0%}"] if mark else [])]
        print(f"{'':14}" + "".join(f"{head:>20}" for head in heads) + f"{'thinking':>10}")
        for name in names:
            courses = []
            for seed in range(given.first_seed, given.first_seed + given.seeds):
                print(f"\r{name}: seed {seed}", end="", file=sys.stderr, flush=True)
                courses.append(Course(name, case, seed, given.budgets, given.items or None))
            print("\r" + " " * 40 + "\r", end="", file=sys.stderr, flush=True)
            print(f"{name:14}{row(courses, given.budgets, mark)}", flush=True)


if __name__ == "__main__":
    main()
