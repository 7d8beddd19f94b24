"""What the page's charts are made of: every place in percent, so that the browser can stretch them to any width."""

from dataclasses import dataclass

from services.reporting import wording
from services.reporting.charts.axis import Axis, decimals

Line = tuple[float, float, float, float]
"""x1, y1, x2, y2."""


@dataclass(frozen=True)
class Mark:
    """One point: percent from the left and from the top; `bar` the two ends of its error bar; `network` what it stands
    for elsewhere on the page, None if nothing does; `hollow` marks INT8, `twin` what was re-measured in it."""

    x: float
    y: float
    shape: str
    part: str
    tip: str
    network: str | None = None
    bar: tuple[float, float] | None = None
    shift: int = 0
    hollow: bool = False
    twin: bool = False


@dataclass(frozen=True)
class MarkLabel:
    """A mark's name: `when` it has room (`always`, or on a `wide` screen only)."""

    x: float
    y: float
    text: str
    part: str
    when: str


@dataclass(frozen=True)
class Curve:
    """Lines of a series: `part` gives them its colour."""

    part: str
    lines: tuple[Line, ...]
    thin: bool = False


@dataclass(frozen=True)
class Chart:
    """What all charts have: two axes, marks, `lines` that join them, and `links` from twins to their originals;
    `curves` are lines of several series."""

    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    lines: tuple[Line, ...] = ()
    links: tuple[Line, ...] = ()
    curves: tuple[Curve, ...] = ()
    labels: tuple[MarkLabel, ...] = ()
    reference: float | None = None


def from_top(y: Axis, value: float) -> float:
    """Distance of a value from the upper edge, in percent of the height."""
    return round(100 - y.place(value), 2)


def percent_label(value: float, step: float) -> str:
    """A tick of an axis of shares."""
    return f"{100 * value:.{decimals(100 * step)}f}{wording.SPACE}%"
