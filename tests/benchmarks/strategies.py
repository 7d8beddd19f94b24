"""How much of what can be reached strategies find with few measurements: of accuracies that are known of all networks.

    python -m tests.benchmarks.strategies
    python -m tests.benchmarks.strategies --strategies bayesian linas-50 --cases B/S1 --seeds 3 --budgets 48 100
    python -m tests.benchmarks.strategies --strategies bayesian --cases table --slices 4 --budgets 192 400 1000

A case is a function (A, B or C: `tests.support.synthetic`) of a space (S1, the example's: 30 layers, three depths,
three widths; S2, LLaMA-NAS's for LLaMA2-7B), or the table of networks that were really measured (`make bench-table`;
`tests.support.table_accuracy`). Printed is, in %, what those networks have which would be chosen by what was measured
(with `bayesian`, by what is estimated from it), with what is true of them: the median over seeds, and quartiles. Each
evaluation counts.

* Of a function, it is the share of the hypervolume of the exact front.
* Of the table, a search reads a random half of the items, another one with each seed, and the other half says what is
  true. It is what is chosen within each limit to the size, compared with what one would choose who measured all
  networks on all items that a search may read: by luck, too, so that more than 100 % is possible.

`to NN%` is the number of evaluations from which on the median was that, and the items that these read; `thinking` the
processor time that the strategy itself took, in seconds. The mark for the table is what `linas-50` has after 250
evaluations. With `--items 100`, or `--items 400 --slices 4`, and four times the budgets, as many items are read for
more networks.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import get_args

import numpy as np

from services.coordinator.evaluated import Evaluated
from services.coordinator.genomes import FloatArray, IntArray
from shared.errors import UserError
from tests.support.known_accuracy import KnownAccuracy
from tests.support.network_table import EXAMPLE_TABLE, NetworkTable
from tests.support.search_peers import SEARCHERS, accuracy_of, missing
from tests.support.synthetic import FunctionName, SpaceName, SyntheticAccuracy
from tests.support.table_accuracy import TableAccuracy

BUDGETS = (48, 100, 250)
TABLE = "table"
CASES = (*(f"{function}/{space}" for function in get_args(FunctionName) for space in get_args(SpaceName)), TABLE)
ITEMS = 400
"""Of a measurement of a function; of the table's items a search reads half."""
MARKS = {"B/S1": 0.93, "B/S2": 0.956}
"""What DyNAS-T's own LINAS (population 50) reached with 250 evaluations, measured once; in B/S1, it had 67 and 85 %
with 48 and 100. It is not installed with the benchmark."""
LINAS = "linas-50"
"""The strategy whose result is the mark where DyNAS-T's isn't known."""


class Case:
    """Accuracies of one kind, by seed; `items` that a search reads at most, 0 where it measures exactly."""

    def __init__(self, name: str, items: int | None, slices: int, table: Path, networks: int | None = None) -> None:
        self.name = name
        self._slices = slices
        self._table = NetworkTable.read(table).first(networks) if name == TABLE else None
        self._most = ITEMS if self._table is None else TableAccuracy.most_items(self._table)
        self.items = self._most if items is None else items
        self._accuracies = lru_cache(maxsize=64)(self._made)

    def accuracy(self, seed: int) -> KnownAccuracy:
        """What is searched with a seed."""
        return self._accuracies(seed, self.items or None, self._slices)

    def on_all_items(self, seed: int) -> KnownAccuracy:
        """The same, where each measurement reads as many items as can be."""
        return self._accuracies(seed, self._most, 1)

    def _made(self, seed: int, items: int | None, slices: int) -> KnownAccuracy:
        if self._table is not None:
            return TableAccuracy(self._table, seed, items, slices)
        function, space = self.name.split("/")
        return SyntheticAccuracy(function, space, seed, items, slices)  # type: ignore[arg-type]


class Course:
    """A search of one accuracy with one seed: the share that was reached after each generation, by evaluations."""

    def __init__(self, strategy: str, accuracy: KnownAccuracy, seed: int, budgets: Sequence[int]) -> None:
        self._accuracy = accuracy
        self._searcher = SEARCHERS[strategy](accuracy.costs, seed)
        self.thinking = 0.0
        self.shares: dict[int, float] = {}
        costs, measured, exact = np.empty((0, 1)), np.empty(0), np.empty(0)
        while len(measured) < max(budgets):
            # A generation is cut short at each budget, as if the search ended there.
            genomes, evaluated = self._generation(min(left for one in budgets if (left := one - len(measured)) > 0))
            if not evaluated:
                break  # all networks are measured
            costs = np.concatenate([costs, [one.costs for one in evaluated]])
            measured = np.concatenate([measured, [accuracy_of(one) for one in evaluated]])
            exact = np.concatenate([exact, accuracy.exact(genomes)])
            self.shares[len(measured)] = accuracy.share(costs, self._searcher.chosen_by(measured), exact)

    def share(self, evaluations: int) -> float:
        """The share after the last generation that was complete by then."""
        return max(((number, share) for number, share in self.shares.items() if number <= evaluations), default=(0, 0))[
            1
        ]

    def _generation(self, limit: int) -> tuple[IntArray, list[Evaluated]]:
        """The next networks, shape (networks, genes), and what was measured of them."""
        began = time.process_time()
        genomes = self._searcher.ask(limit)
        self.thinking += time.process_time() - began
        evaluated = self._accuracy.measure(genomes)
        began = time.process_time()
        self._searcher.tell(evaluated)
        self.thinking += time.process_time() - began
        return genomes, evaluated


def shares(courses: Sequence[Course], evaluations: int) -> FloatArray:
    """What each seed had, in %."""
    return np.array([100 * course.share(evaluations) for course in courses])


def evaluations_to(mark: float, courses: Sequence[Course]) -> int | None:
    """Evaluations from which on the median over seeds was at least the mark; None if it wasn't at the end."""
    numbers = sorted({number for course in courses for number in course.shares})
    lasting = takewhile(lambda number: np.median(shares(courses, number)) >= 100 * mark, reversed(numbers))
    return min(lasting, default=None)


def row(courses: Sequence[Course], budgets: Sequence[int], mark: float | None, items_each: float) -> str:
    """What several seeds of a search of one case gave."""
    columns = []
    for budget in budgets:
        low, middle, high = np.percentile(shares(courses, budget), [25, 50, 75])
        columns.append(f"{middle:7.1f} ({low:.1f}-{high:.1f})")
    if mark is not None:
        needed = evaluations_to(mark, courses)
        columns.append("never" if needed is None else f"{needed} ({needed * items_each:,.0f} items)")
    thinking = float(np.median([one.thinking for one in courses]))
    return "".join(f"{column:>21}" for column in columns) + f"{thinking:10.1f}"


def mark_of(case: Case, seeds: range) -> float | None:
    """The share that evaluations are counted to, if there is one."""
    if case.name != TABLE:
        return MARKS.get(case.name)
    (evaluations,) = BUDGETS[-1:]
    courses = [Course(LINAS, case.on_all_items(seed), seed, (evaluations,)) for seed in seeds]
    mark = float(np.median(shares(courses, evaluations))) / 100
    print(f"{LINAS} has {mark:.1%} after {evaluations} evaluations of {case.on_all_items(seeds[0]).items} items")
    return mark


def run_case(case: Case, names: Sequence[str], seeds: range, budgets: Sequence[int], mark: float | None) -> None:
    """Print a case's table, and what is worse in it than random search."""
    items_each = case.accuracy(seeds[0]).items_each
    print(f"\n{case.name}, {f'{items_each:g}' if case.items else 'infinitely many'} items, {len(seeds)} seeds")
    mark = mark or mark_of(case, seeds)
    heads = [*(f"{budget} evaluations" for budget in budgets), *([f"to {mark:.1%}"] if mark else [])]
    print(f"{'':14}" + "".join(f"{head:>21}" for head in heads) + f"{'thinking':>10}")
    found = {}
    for name in names:
        courses = []
        for seed in seeds:
            print(f"\r{name}: seed {seed}", end="", file=sys.stderr, flush=True)
            courses.append(Course(name, case.accuracy(seed), seed, budgets))
        print("\r" + " " * 40 + "\r", end="", file=sys.stderr, flush=True)
        print(f"{name:14}{row(courses, budgets, mark, items_each)}", flush=True)
        found[name] = np.array([np.median(shares(courses, budget)) for budget in budgets])
    if "random" in found:
        worse = [
            f"{name} after {budget}"
            for name, medians in found.items()
            for budget, one, random in zip(budgets, medians, found["random"], strict=True)
            if one < random
        ]
        print(f"worse than random: {', '.join(worse) or 'none'}", flush=True)


def main() -> None:
    """Print a table for each case."""
    parser = argparse.ArgumentParser(prog="strategies")
    parser.add_argument("--strategies", nargs="+", default=list(SEARCHERS), choices=list(SEARCHERS), metavar="NAME")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES, metavar="CASE")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--budgets", nargs="+", type=int, default=list(BUDGETS), metavar="EVALUATIONS")
    parser.add_argument(
        "--items", type=int, help="that a search reads; 0: measured exactly; default: as many as can be"
    )
    parser.add_argument("--slices", type=int, default=1, help="of these items; each network is measured on one")
    parser.add_argument("--table", type=Path, default=EXAMPLE_TABLE, help="file of the case table")
    parser.add_argument("--networks", type=int, help="of the table, the first so many")
    parser.add_argument("--mark", type=float, help="share, in %%, that evaluations are counted to")
    given = parser.parse_args()
    for name in missing(given.strategies):
        print(f"{name}: left out, as optuna isn't installed")
    names = [name for name in given.strategies if name not in missing(given.strategies)]
    if given.slices > 1 and (others := [name for name in names if not name.startswith("bayesian")]):
        parser.error(f"--slices: {others[0]} compares networks by what was measured on the same items")
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    try:
        for name in given.cases:
            case = Case(name, given.items, given.slices, given.table, given.networks)
            run_case(case, names, seeds, given.budgets, given.mark / 100 if given.mark else None)
    except UserError as error:
        sys.exit(f"strategies: {error}")


if __name__ == "__main__":
    main()
