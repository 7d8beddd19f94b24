"""The charts of the page as geometry: every place in percent, so that the browser can stretch them to any width."""

from dataclasses import dataclass
from itertools import pairwise

from services.reporting import wording
from services.reporting.axis import Axis, axis_over, count_axis, decimals, scaled_label
from services.reporting.report_data import ReportContent

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
class Label:
    """A mark's name: `when` it has room (`always`, or on a `wide` screen only)."""

    x: float
    y: float
    text: str
    part: str
    when: str


@dataclass(frozen=True)
class Chart:
    """What all charts have: two axes, marks, `lines` that join them, and `links` from twins to their originals."""

    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    lines: tuple[Line, ...] = ()
    links: tuple[Line, ...] = ()
    labels: tuple[Label, ...] = ()
    reference: float | None = None


def hypervolume_chart(content: ReportContent) -> Chart | None:
    """Hypervolume over the number of measured networks; None if no generation was finished."""
    rows = content.generations
    if not rows:
        return None
    x = count_axis("Networks measured", [0, *(row.evaluations for row in rows)])
    y = axis_over("Hypervolume", [row.hypervolume for row in rows], _plain_label)
    marks = tuple(
        Mark(
            x.place(row.evaluations),
            top(y, row.hypervolume),
            "state",
            "all",
            f"Generation {row.generation}\n{row.evaluations} networks measured\n"
            f"hypervolume {wording.number(row.hypervolume)}",
        )
        for row in rows
    )
    joined = tuple((left.x, left.y, right.x, right.y) for left, right in pairwise(marks))
    return Chart(x, y, marks, joined)


def tau_chart(content: ReportContent) -> Chart | None:
    """Kendall's tau of each generation's predictor; None if none was used."""
    measured = [(row, row.kendall_tau) for row in content.generations if row.kendall_tau is not None]
    if not measured:
        return None
    x = count_axis("Generation", [row.generation for row, _ in measured])
    y = axis_over("Kendall's τ", [0.0, 1.0, *(tau for _, tau in measured)], _plain_label)
    marks = []
    for row, tau in measured:
        tip = f"Generation {row.generation}\nKendall's τ {wording.number(tau)}"
        if row.mean_absolute_error is not None:
            tip += f"\nmean absolute error {wording.number(100 * row.mean_absolute_error)} points"
        if row.size_tau is not None:
            tip += f"\nby size alone {wording.number(row.size_tau)}"
        if row.partial_tau is not None:
            tip += f"\nat equal size {wording.number(row.partial_tau)}"
        if row.predictor is not None:
            tip += f"\npredictor: {row.predictor}"
        marks.append(Mark(x.place(row.generation), top(y, tau), "state", "all", tip))
    stems = tuple((mark.x, top(y, 0), mark.x, mark.y) for mark in marks)
    return Chart(x, y, tuple(marks), stems, reference=top(y, 0))


def top(y: Axis, value: float) -> float:
    """Distance of a value from the upper edge, in percent of the height."""
    return round(100 - y.place(value), 2)


def percent_label(value: float, step: float) -> str:
    """A tick of an axis of shares."""
    return f"{100 * value:.{decimals(100 * step)}f}{wording.SPACE}%"


def _plain_label(value: float, step: float) -> str:
    if abs(value) >= 1e5:
        return scaled_label(wording.COUNTS)(value, step)
    return f"{value:.{decimals(step)}f}".replace("-", wording.MINUS)
