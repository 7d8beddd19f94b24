"""How the search went, as charts: the hypervolume, and the predictor's rank correlation."""

from itertools import pairwise

from services.reporting import wording
from services.reporting.charts.axis import axis_over, count_axis, decimals, scaled_label
from services.reporting.charts.chart import Chart, Mark, from_top
from services.reporting.report_data import ReportContent


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
            from_top(y, row.hypervolume),
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
        marks.append(Mark(x.place(row.generation), from_top(y, tau), "state", "all", tip))
    stems = tuple((mark.x, from_top(y, 0), mark.x, mark.y) for mark in marks)
    return Chart(x, y, tuple(marks), stems, reference=from_top(y, 0))


def _plain_label(value: float, step: float) -> str:
    if abs(value) >= 1e5:
        return scaled_label(wording.COUNTS)(value, step)
    return f"{value:.{decimals(step)}f}".replace("-", wording.MINUS)
