"""Rows of dots, stacked columns and shaded matrices as still pictures."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.ticker import FuncFormatter

from services.reporting.charts.dot_rows import DotRows
from services.reporting.charts.figure_style import (
    INK,
    MARKERS,
    SEARCH,
    SEEN,
    SOFT,
    TONES,
    percent_axis,
    plain_frame,
    still_picture,
)
from services.reporting.charts.stacked_columns import StackedColumns


def draw_dots(chart: DotRows, title: str) -> bytes:
    """Rows of dots as SVG."""
    with still_picture(8, 1.2 + 0.26 * len(chart.rows)) as picture:
        axes = picture.figure.add_subplot()
        for height, row in enumerate(reversed(chart.rows)):
            if len(row.dots) > 1:
                axes.plot([100 * dot.value for dot in row.dots], [height] * len(row.dots), color=SOFT, linewidth=0.8)
            for dot in row.dots:
                color = TONES[dot.tone]
                if dot.interval is not None:
                    low, high = dot.interval
                    axes.hlines(height, 100 * low, 100 * high, color=color, linewidth=1.2, alpha=0.7)
                axes.scatter(
                    100 * dot.value,
                    height,
                    s=80 if dot.shape == "star" else 34,
                    marker=MARKERS[dot.shape],
                    facecolor="white" if dot.hollow else color,
                    edgecolor=color,
                    zorder=3,
                )
        if chart.reference is not None:
            axes.axvline(100 * chart.reference, color=SOFT, linewidth=0.9, zorder=1)
        axes.set_yticks(range(len(chart.rows)), [row.name for row in reversed(chart.rows)], fontsize=8.5)
        axes.set_title(title, loc="left", color=INK, fontweight="bold", fontsize=10)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
        plain_frame(axes, "x")
    return picture.svg


def draw_stacks(charts: Sequence[StackedColumns], columns: int = 3) -> bytes:
    """Stacked columns as SVG, charts side by side; all have the same legend if they have the same names."""
    columns = min(columns, len(charts))
    rows = -(-len(charts) // columns)
    with still_picture(4.2 * columns, 2.4 * rows) as picture:
        for number, chart in enumerate(charts):
            axes = picture.figure.add_subplot(rows, columns, number + 1)
            for index, name in enumerate(chart.names):
                shares = [
                    next((each for each in column.segments if each.name == name), None) for column in chart.columns
                ]
                axes.bar(
                    range(len(chart.columns)),
                    [100 * (each.high - each.low) if each else 0 for each in shares],
                    bottom=[100 * each.low if each else 0 for each in shares],
                    color=SEARCH,
                    alpha=0.2 + 0.8 * index / max(1, len(chart.names) - 1),
                    width=0.76,
                    label=name,
                )
            axes.set_xticks(range(len(chart.columns)), [column.name for column in chart.columns], fontsize=7)
            axes.set_title(chart.title, loc="left", color=INK, fontweight="bold", fontsize=9)
            percent_axis(axes)
            plain_frame(axes)
            axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return picture.svg


def draw_matrix(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    texts: Sequence[Sequence[str]] | None = None,
) -> bytes:
    """A matrix of numbers as SVG: above 0 blue, below it orange, grey where there is none; `texts` stand in its
    cells."""
    numbers = [[float("nan") if value is None else value for value in line] for line in values]
    greatest = max((abs(value) for line in values for value in line if value is not None), default=0) or 1.0
    with still_picture(
        max(5.0, 2.2 + (0.28 if texts is None else 1.15) * len(columns)), 1.3 + 0.4 * len(rows)
    ) as picture:
        axes = picture.figure.add_subplot()
        axes.set_facecolor(SEEN)
        axes.pcolormesh(numbers, cmap=_colours(), norm=TwoSlopeNorm(0, -greatest, greatest), edgecolor="white")
        for line, texts_of_line in enumerate(texts or ()):
            for column, text in enumerate(texts_of_line):
                axes.text(column + 0.5, line + 0.5, text, ha="center", va="center", fontsize=8, color=INK)
        axes.set_yticks([line + 0.5 for line in range(len(rows))], rows, fontsize=8.5)
        axes.set_xticks([column + 0.5 for column in range(len(columns))], columns, fontsize=8.5)
        axes.invert_yaxis()
        _without_frame(axes, title)
    return picture.svg


def _colours() -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list("gains and losses", ["#eeb98f", "#ffffff", "#8fb1f2"])


def _without_frame(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", color=INK, fontweight="bold", fontsize=10)
    axes.tick_params(colors=SOFT, length=0)
    axes.spines[:].set_visible(False)
