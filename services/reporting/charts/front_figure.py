"""The front as a still picture, for a README: the same content always gives the same bytes."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from services.reporting import wording
from services.reporting.charts.figure_style import (
    INK,
    REPORT,
    SEARCH,
    SEEN,
    SOFT,
    legend_below,
    percent_axis,
    plain_frame,
    still_picture,
)
from services.reporting.displayed_costs import COSTS, front_by_cost
from services.reporting.listed_networks import drawable_int8_twins
from services.reporting.report_data import EvaluatedNetwork, NetworkRow, ReportContent

COUNT_NAMES = {"T": "trillions", "B": "billions", "M": "millions", "k": "thousands"}


@dataclass(frozen=True)
class MarkerStyle:
    """How a group of networks is drawn; `shift`, in the axis' unit, moves it to the right of another of its size."""

    color: str
    marker: str
    label: str
    shift: float = 0.0


def draw_figure(content: ReportContent) -> bytes:
    """Accuracy over the first objective as SVG: all measured networks, the front on both parts with its INT8 twins and
    its random counterparts, the dense and the base network."""
    with still_picture(8, 4.8) as picture:
        _FrontFigure(content, picture.figure.add_subplot()).draw()
    return picture.svg


class _FrontFigure:
    def __init__(self, content: ReportContent, axes: Axes) -> None:
        self.content = content
        self.axes = axes
        self.cost = COSTS[content.objectives[0]]
        # One unit for the whole axis: the one that suits the dense network.
        self.scale, self.unit = wording.unit_for(self.cost.of(content.dense) or 1.0, self.cost.units)

    def draw(self) -> None:
        """Draw all of it onto the axes."""
        self._search_part()
        self._report_part()
        self._twins()
        self._label_axes()

    def _across(self, network: NetworkRow | EvaluatedNetwork) -> float:
        return self.cost.required_of(network) / self.scale

    def _search_part(self) -> None:
        front = [network for network in self.content.evaluated if network.on_front]
        joined = front_by_cost(front, self.cost)
        self.axes.step(
            [self._across(network) for network in joined],
            [100 * network.search_accuracy for network in joined],
            where="post",
            color=SEARCH,
            alpha=0.5,
            zorder=3,
        )
        others = [network for network in self.content.evaluated if not network.on_front]
        self._dots(others, SEEN, 14, "measured by the search")
        self._dots(front, SEARCH, 70, "front, search part")

    def _dots(self, networks: Sequence[EvaluatedNetwork], color: str, area: float, label: str) -> None:
        for int8 in (False, True):
            group = [network for network in networks if (network.architecture.quantization == "int8") == int8]
            if not group:
                continue
            self.axes.scatter(
                [self._across(network) for network in group],
                [100 * network.search_accuracy for network in group],
                facecolor="white" if int8 else color,
                edgecolor=color if int8 or area < 20 else "white",
                s=area,
                zorder=4 if area > 20 else 2,
                label=f"{label}, INT8" if int8 else label,
            )

    def _report_part(self) -> None:
        content = self.content
        width = self._across(content.dense) - min(self._across(row) for row in content.front)
        height = 100 * content.dense.reported[0]
        self.axes.axhline(height, color=INK, linewidth=0.9, linestyle=(0, (5, 4)), zorder=1)
        self._random()
        self._with_bars(content.reported, MarkerStyle(REPORT, "o", "front, report part (95 % interval)"))
        self._with_bars((content.dense,), MarkerStyle(INK, "s", "dense network, report part"))
        self._with_bars((content.base,), MarkerStyle(SOFT, "^", "base model, report part", shift=0.012 * width))

    def _with_bars(self, rows: tuple[NetworkRow, ...], style: MarkerStyle) -> None:
        measured = [row.reported for row in rows]
        accuracies = [100 * accuracy for accuracy, _ in measured]
        below = [100 * (accuracy - low) for accuracy, (low, _) in measured]
        above = [100 * (high - accuracy) for accuracy, (_, high) in measured]
        self.axes.errorbar(
            [self._across(row) + style.shift for row in rows],
            accuracies,
            yerr=[below, above],
            fmt=style.marker,
            color=style.color,
            markersize=6,
            markeredgecolor="white",
            elinewidth=1.2,
            capsize=3,
            label=style.label,
            zorder=5,
        )

    def _random(self) -> None:
        """Without error bars, which would hide those of the front."""
        rows = self.content.random
        if rows:
            self.axes.scatter(
                [self._across(row) for row in rows],
                [100 * row.reported[0] for row in rows],
                color=SOFT,
                marker="x",
                s=36,
                zorder=4,
                label="random networks of these sizes, report part",
            )

    def _twins(self) -> None:
        """Hollow, each on a thin line from its original."""
        pairs = drawable_int8_twins(self.content, self.cost)
        for twin, original in pairs:
            self.axes.plot(
                [self._across(original), self._across(twin.row)],
                [100 * original.reported[0], 100 * twin.row.reported[0]],
                color=REPORT,
                linewidth=0.8,
                alpha=0.7,
                zorder=3,
            )
        if pairs:
            self.axes.scatter(
                [self._across(twin.row) for twin, _ in pairs],
                [100 * twin.row.reported[0] for twin, _ in pairs],
                facecolor="white",
                edgecolor=REPORT,
                s=36,
                zorder=6,
                label="front in INT8, report part",
            )

    def _label_axes(self) -> None:
        axes, cost = self.axes, self.cost
        axes.set_title(self.content.name, loc="left", color=INK, fontweight="bold", parse_math=False)
        unit = COUNT_NAMES.get(self.unit, self.unit) if cost.objective == "parameters" else self.unit
        axes.set_xlabel(f"{cost.phrase} ({unit})" if unit else cost.phrase, color=INK)
        axes.set_ylabel("accuracy", color=INK)
        percent_axis(axes)
        plain_frame(axes)
        legend_below(axes.figure)
