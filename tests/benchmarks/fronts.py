"""What several searches of one super-network are worth, on report items that nothing was chosen on.

    python -m tests.benchmarks.fronts runs/bayesian runs/linas runs/random [--limits 95 100 105 110 115 120 125 130]

Each run takes, for each limit to the parameters (in millions), the network of its front that it holds to be the most
accurate within it. Printed are the accuracies of these on the report items, in %; their mean, with the difference from
the first run and its 95 % interval (paired by item); and the hypervolume of all networks of the front. The whole front
has to be measured on the report items (`reporting.networks`).
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.application.export.searched_run import SearchedRun
from services.coordinator.genomes import FloatArray
from services.coordinator.pareto import ReferencePoint, hypervolume
from services.reporting.report_data import NetworkRow
from shared.errors import UserError

LIMITS = (95, 100, 105, 110, 115, 120, 125, 130)
JUST_ABOVE = 1.001
NORMAL_95 = 1.96


@dataclass(frozen=True)
class Taken:
    """What a run would have one take: a network for each limit, and which items each answers right, shape (limits,
    items)."""

    name: str
    rows: tuple[NetworkRow, ...]
    right: FloatArray
    hypervolume: float


def taken(path: Path, limits: list[float], chance: float) -> Taken:
    """Raises UserError for a run whose front isn't measured on the report items, or has no network within a limit."""
    run = SearchedRun.read(path)
    front = run.report.front
    rows = []
    for limit in limits:
        fitting = [row for row in front if row.parameters <= limit * 1e6]
        if not fitting:
            raise UserError(f"{path}: has no network of at most {limit:g} M parameters")
        rows.append(max(fitting, key=lambda row: row.search_accuracy or 0.0))
    answers = run.answers([run.plan.request(row.architecture, "report") for row in front])
    if missing := [row.name for row, found in zip(front, answers, strict=True) if found is None]:
        raise UserError(f"{path}: {', '.join(missing)} not measured on the report items; raise reporting.networks")
    right = {row.name: found.values for row, found in zip(front, answers, strict=True) if found is not None}
    reference = ReferencePoint((run.plan.space.parameters(run.plan.space.largest()),), JUST_ABOVE, chance)
    return Taken(
        path.name,
        tuple(rows),
        np.array([right[row.name] for row in rows], np.float64),
        hypervolume([[row.parameters] for row in front], [row.reported[0] for row in front], reference),
    )


def mean_difference(one: Taken, other: Taken) -> tuple[float, float]:
    """The mean difference in accuracy over the limits, and half its 95 % interval: items are independent."""
    by_item = (one.right - other.right).mean(axis=0)
    return float(by_item.mean()), NORMAL_95 * float(by_item.std(ddof=1)) / len(by_item) ** 0.5


def main() -> None:
    """Print a line for each run."""
    parser = argparse.ArgumentParser(prog="fronts")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--limits", type=float, nargs="+", default=list(LIMITS), metavar="MILLIONS")
    parser.add_argument(
        "--chance", type=float, default=25.0, help="accuracy of guessing, in %%: the hypervolume's corner"
    )
    given = parser.parse_args()
    try:
        found = [taken(path, given.limits, given.chance / 100) for path in given.runs]
    except UserError as error:
        sys.exit(f"fronts: {error}")
    print(
        f"{'':16}" + "".join(f"{f'{limit:g} M':>8}" for limit in given.limits) + f"{'mean':>8}  against first    volume"
    )
    for one in found:
        accuracies = "".join(f"{100 * right.mean():8.1f}" for right in one.right)
        difference, half = mean_difference(one, found[0])
        against = "" if one is found[0] else f"{100 * difference:+.1f} (±{100 * half:.1f})"
        print(f"{one.name:16}{accuracies}{100 * one.right.mean():8.1f}  {against:16} {one.hypervolume:.4f}")


if __name__ == "__main__":
    main()
