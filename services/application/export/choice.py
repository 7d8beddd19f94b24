"""Which network of a run is exported: by its name, by need, or by a file of its own. Loads no model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.application.architecture_file import read_architecture
from services.application.export.need import Need
from services.application.export.searched_run import SearchedRun
from services.reporting.report_data import NetworkRow
from services.reporting.wording import percent
from shared.architecture import Architecture, dense
from shared.errors import UserError
from shared.text import shown

DENSE = "dense"
"""What reports call the whole super-network."""


@dataclass(frozen=True)
class ChosenNetwork:
    """A network by its name; `row` is what the run's report says of it, None where it says nothing; `why` it was
    chosen, in words, where it was not named."""

    name: str
    architecture: Architecture
    row: NetworkRow | None = None
    why: str = ""


def choose(
    run: SearchedRun, name: str | None, architecture: Path | None, at_most: Sequence[str]
) -> ChosenNetwork | None:
    """The network that is asked for; None if none is.

    Raises UserError where it is asked for in two ways, or there is no such network.
    """
    asked = [("NETWORK", name is not None), ("--architecture", architecture is not None), ("--at-most", bool(at_most))]
    given = [option for option, is_given in asked if is_given]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)}: each chooses a network; give one of them")
    if name is not None:
        return _named(run, name)
    if architecture is not None:
        return _of_file(run, architecture)
    return _that_fits(run, at_most) if at_most else None


def _named(run: SearchedRun, name: str) -> ChosenNetwork:
    if name == DENSE and run.content is None:
        return ChosenNetwork(DENSE, dense(run.plan.space.network))
    # Files are named N1-int8 where reports say "N1 int8".
    found = next((row for row in run.networks if row.name in (name, name.replace("-", " "))), None)
    if found is None:
        names = ", ".join(row.name for row in run.networks)
        raise UserError(f"{run.directory.path}: has no network {shown(name)}, but {names}; name one of them")
    return ChosenNetwork(found.name, found.architecture, found)


def _of_file(run: SearchedRun, file: Path) -> ChosenNetwork:
    architecture = read_architecture(file)
    known = () if run.content is None else run.networks
    row = next((row for row in known if row.architecture == architecture), None)
    return ChosenNetwork(file.stem if row is None else row.name, architecture, row)


def _that_fits(run: SearchedRun, at_most: Sequence[str]) -> ChosenNetwork:
    needs = [Need.parse(text, run.report) for text in at_most]
    front = run.report.front
    fitting = [row for row in front if all(need.is_met(row) for need in needs)]
    asked = " and ".join(need.in_words() for need in needs)
    if not fitting:
        costs = dict.fromkeys(need.cost for need in needs)
        extremes = ", ".join(
            f"the {cost.superlative}, {row.name}, has {cost.show(cost.required_of(row))}"
            for cost in costs
            for row in (min(front, key=cost.required_of),)
        )
        raise UserError(f"{run.directory.path}: no network of the front has {asked}; {extremes}")
    best = max(fitting, key=lambda row: (row.search_accuracy or 0.0, -needs[0].cost.required_of(row)))
    has = " and ".join(need.cost.show(need.cost.required_of(best)) for need in needs)
    why = (
        f"the most accurate on the search items ({percent(best.search_accuracy)}) of the {len(fitting)} of "
        f"{len(front)} networks of the front with {asked}; it has {has}"
    )
    return ChosenNetwork(best.name, best.architecture, best, why)
