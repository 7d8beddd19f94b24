"""Panels of series as a still picture."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from services.reporting import wording
from services.reporting.charts.figure_style import (
    INK,
    MARKERS,
    TONES,
    legend_below,
    percent_axis,
    plain_frame,
    still_picture,
)
from services.reporting.charts.series import Panel, Series, legend

WIDTH, HEIGHT = 4.6, 3.0
"""Of one of several panels, in inches."""
ALONE = 8.0, 4.6
COLUMNS = 2
APART = 0.016
"""How far error bars are moved apart, as a share of the width."""
LEGEND_ROW = 0.26


def draw_panels(panels: Sequence[Panel]) -> bytes:
    """The panels as SVG, side by side, with one legend."""
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    named = legend(*panels)
    width, height = ALONE if len(panels) == 1 else (WIDTH * columns, HEIGHT * rows)
    with still_picture(width, height + LEGEND_ROW * -(-len(named) // COLUMNS)) as picture:
        axes = [picture.figure.add_subplot(rows, columns, number + 1) for number in range(len(panels))]
        for one, panel in zip(axes, panels, strict=True):
            _draw(one, panel)
        handles = {}
        for one in axes:
            handles.update({label: handle for handle, label in zip(*one.get_legend_handles_labels(), strict=True)})
        legend_below(picture.figure, COLUMNS, [(handles[each.name], each.name) for each in named])
    return picture.svg


def _draw(axes: Axes, panel: Panel) -> None:
    scale, unit = 1.0, ""
    if panel.x.units is not None:
        scale, unit = wording.unit_for(max((point.x for point in panel.points), default=1.0), panel.x.units)
    apart = _Apart([point.x / scale for point in panel.points])
    for order, series in enumerate(panel.series):
        _series(axes, series, scale, order + 2, apart)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_title(panel.title, loc="left", color=INK, fontweight="bold", fontsize=10)
    axes.set_xlabel(f"{panel.x.title} ({unit})" if unit else panel.x.title, color=INK)
    percent_axis(axes)
    plain_frame(axes)


class _Apart:
    """Moves what has an error bar to the right of others of its size, as the page does."""

    def __init__(self, places: Sequence[float]) -> None:
        self._step = APART * (max(places) - min(places)) if places else 0.0
        self._taken: list[float] = []

    def move(self, place: float) -> float:
        """Where it is drawn."""
        others = sum(abs(place - other) < self._step for other in self._taken)
        self._taken.append(place)
        return place + others * self._step


def _series(axes: Axes, series: Series, scale: float, order: int, apart: _Apart) -> None:
    points = sorted(series.points, key=lambda point: point.x)
    x = [apart.move(point.x / scale) if point.interval else point.x / scale for point in points]
    y = [100 * point.y for point in points]
    color, hollow = TONES[series.tone], series.hollow
    if series.join != "none":
        label = series.name if series.shape == "none" else None
        style = "default" if series.join == "straight" else "steps-post"
        axes.plot(x, y, drawstyle=style, color=color, alpha=0.5, linewidth=1.4, zorder=order, label=label)
    for point, place in zip(points, x, strict=True):
        if point.origin is not None:
            across, up = point.origin
            axes.plot(
                [across / scale, point.x / scale], [100 * up, 100 * point.y], color=color, linewidth=0.8, zorder=order
            )
        if point.interval is not None:
            low, high = point.interval
            axes.vlines(place, 100 * low, 100 * high, color=color, linewidth=1, alpha=0.7, zorder=order)
    if series.shape != "none":
        seen = series.shape == "seen"
        axes.scatter(
            x,
            y,
            s={"seen": 14, "star": 110}.get(series.shape, 48),
            marker=MARKERS[series.shape],
            facecolor="white" if hollow else color,
            edgecolor=color if hollow else "white",
            linewidth=1.2 if hollow else 0 if seen else 0.8,
            alpha=0.3 if seen else 1.0,
            zorder=order + len(points),
            label=series.name,
        )
