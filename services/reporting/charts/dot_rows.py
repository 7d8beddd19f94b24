"""Rows with dots over one common axis: accuracies with their intervals one below the other, or before and after."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.reporting.charts.axis import Axis, axis_over
from services.reporting.charts.chart import percent_label


@dataclass(frozen=True)
class Dot:
    """An accuracy; `tone`, `shape` and `hollow` as in a series."""

    value: float
    tip: str
    tone: str
    shape: str
    interval: tuple[float, float] | None = None
    hollow: bool = False


@dataclass(frozen=True)
class DotRow:
    """One row: several dots are joined by a thin line; `about` is a second, softer line of its name."""

    name: str
    about: str
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class DotRows:
    """A chart of rows; `reference` is drawn through all of them."""

    title: str
    x: Axis
    rows: tuple[DotRow, ...]
    reference: float | None = None


def dot_rows(title: str, axis: str, rows: Sequence[DotRow], reference: float | None = None) -> DotRows | None:
    """The chart over an axis on which everything fits; None without dots. Rows without dots are left out."""
    filled = tuple(row for row in rows if row.dots)
    values = [value for row in filled for dot in row.dots for value in (dot.value, *(dot.interval or ()))]
    if not values:
        return None
    if reference is not None:
        values.append(reference)
    return DotRows(title, axis_over(axis, values, percent_label), filled, reference)
