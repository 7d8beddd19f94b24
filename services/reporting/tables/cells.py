"""Cells of the report's tables, on the page and in the terminal: what is shown, and the number it stands for."""

from dataclasses import dataclass

from services.reporting import wording
from services.reporting.displayed_costs import COSTS
from services.reporting.report_data import Comparison, NetworkRow, SpeedRow
from shared.settings import Objective


@dataclass(frozen=True)
class TableCell:
    """What is shown, and the number that sorts it (None: it comes last)."""

    shown: str
    value: float | None


EMPTY = TableCell(wording.NOT_MEASURED, None)


def count(number: int) -> TableCell:
    """A number of layers and the like."""
    return TableCell(str(number), number)


def ratio(times: float) -> TableCell:
    """How many times one thing is the other."""
    return TableCell(f"{times:.2f}", times)


def few(number: int) -> TableCell:
    """A number of what most networks have none of: a column of zeros says nothing."""
    return TableCell(str(number), number or None)


def cost(row: NetworkRow, objective: Objective) -> TableCell:
    """A cost in its unit."""
    displayed = COSTS[objective]
    value = displayed.of(row)
    return EMPTY if value is None else TableCell(displayed.show(value), value)


def size(number: int) -> TableCell:
    """A number of bytes."""
    return TableCell(wording.size(number), number)


def speed(row: SpeedRow | None, phase: str) -> TableCell:
    """Tokens per second of a phase, `prefill` or `decode`."""
    if row is None:
        return EMPTY
    repeats: tuple[float, float, float] = getattr(row, phase)
    return TableCell(wording.rate(repeats), repeats[0])


def difference(comparison: Comparison | None) -> TableCell:
    """A difference in accuracy with its interval, in points."""
    if comparison is None:
        return EMPTY
    shown = f"{wording.points(comparison.difference)} ({wording.points_interval(comparison.interval)})"
    return TableCell(shown, comparison.difference)
