"""The front as a still picture, for a README: the same content always gives the same bytes."""

import io
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from services.coordinator.report.content import NetworkRow, ReportContent

INK, SOFT, RULE, SEEN = "#1b2230", "#5a6477", "#dfe3ea", "#b4bcc8"
SEARCH, REPORT = "#2360d8", "#c9500a"
# Without a fixed salt the identifiers within the SVG differ from run to run.
STYLE = {"svg.hashsalt": "nasfarm", "svg.fonttype": "path", "font.size": 10.0, "font.family": "DejaVu Sans"}


@dataclass(frozen=True)
class Look:
    """How a group of networks is drawn; `beside` sets it to the right of another of the same size."""

    color: str
    marker: str
    label: str
    beside: float = 0.0


def draw_figure(content: ReportContent) -> bytes:
    """Accuracy over size as SVG: all measured networks, the front on both parts, the dense and the base network."""
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(8, 4.8), layout="constrained", facecolor="white")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        scale, unit = (1e9, "billions") if content.dense.parameters >= 1e9 else (1e6, "millions")
        _search_part(axes, content, scale)
        _report_part(axes, content, scale)
        _dress(axes, content, unit)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _search_part(axes: Axes, content: ReportContent, scale: float) -> None:
    others = [network for network in content.evaluated if not network.on_front]
    front = sorted((network for network in content.evaluated if network.on_front), key=lambda each: each.parameters)
    sizes = [network.parameters / scale for network in front]
    accuracies = [100 * network.search_accuracy for network in front]
    axes.scatter(
        [network.parameters / scale for network in others],
        [100 * network.search_accuracy for network in others],
        color=SEEN,
        s=14,
        zorder=2,
        label="measured by the search",
    )
    axes.step(sizes, accuracies, where="post", color=SEARCH, alpha=0.5, zorder=3)
    axes.scatter(sizes, accuracies, color=SEARCH, edgecolor="white", s=70, zorder=4, label="front, search part")


def _report_part(axes: Axes, content: ReportContent, scale: float) -> None:
    width = (content.dense.parameters - min(row.parameters for row in content.front)) / scale
    axes.axhline(100 * content.dense.report_accuracy, color=INK, linewidth=0.9, linestyle=(0, (5, 4)), zorder=1)
    _with_bars(axes, content.front, scale, Look(REPORT, "o", "front, report part (95 % interval)"))
    _with_bars(axes, (content.dense,), scale, Look(INK, "s", "dense network, report part"))
    _with_bars(axes, (content.base,), scale, Look(SOFT, "^", "base model, report part", beside=0.012 * width))


def _with_bars(axes: Axes, rows: tuple[NetworkRow, ...], scale: float, look: Look) -> None:
    accuracies = [100 * row.report_accuracy for row in rows]
    below = [100 * (row.report_accuracy - row.interval[0]) for row in rows]
    above = [100 * (row.interval[1] - row.report_accuracy) for row in rows]
    axes.errorbar(
        [row.parameters / scale + look.beside for row in rows],
        accuracies,
        yerr=[below, above],
        fmt=look.marker,
        color=look.color,
        markersize=6,
        markeredgecolor="white",
        elinewidth=1.2,
        capsize=3,
        label=look.label,
        zorder=5,
    )


def _dress(axes: Axes, content: ReportContent, unit: str) -> None:
    axes.set_title(content.name, loc="left", color=INK, fontweight="bold", parse_math=False)
    axes.set_xlabel(f"parameters ({unit})", color=INK)
    axes.set_ylabel("accuracy", color=INK)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=SOFT, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(SOFT)
    axes.figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9, labelcolor=INK)
