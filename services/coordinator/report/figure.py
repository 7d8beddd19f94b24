"""The front as a still picture, for a README: the same content always gives the same bytes."""

import io

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
    for networks, style in (
        (others, {"color": SEEN, "s": 14, "label": "measured by the search", "zorder": 2}),
        (front, {"color": SEARCH, "s": 34, "label": "front, search part", "zorder": 4, "edgecolor": "white"}),
    ):
        sizes = [network.parameters / scale for network in networks]
        axes.scatter(sizes, [100 * network.search_accuracy for network in networks], **style)
    axes.step(
        [network.parameters / scale for network in front],
        [100 * network.search_accuracy for network in front],
        where="post",
        color=SEARCH,
        alpha=0.5,
        zorder=3,
    )


def _report_part(axes: Axes, content: ReportContent, scale: float) -> None:
    axes.axhline(100 * content.dense.report_accuracy, color=INK, linewidth=0.9, linestyle=(0, (5, 4)), zorder=1)
    _with_bars(axes, content.front, scale, REPORT, "o", "front, report part (95 % interval)")
    _with_bars(axes, (content.dense,), scale, INK, "s", "dense network, report part")
    _with_bars(axes, (content.base,), scale, SOFT, "^", "base model, report part")


def _with_bars(
    axes: Axes, rows: tuple[NetworkRow, ...], scale: float, color: str, marker: str, label: str
) -> None:
    accuracies = [100 * row.report_accuracy for row in rows]
    below = [100 * (row.report_accuracy - row.interval[0]) for row in rows]
    above = [100 * (row.interval[1] - row.report_accuracy) for row in rows]
    axes.errorbar(
        [row.parameters / scale for row in rows],
        accuracies,
        yerr=[below, above],
        fmt=marker,
        color=color,
        markersize=6,
        markeredgecolor="white",
        elinewidth=1.2,
        capsize=3,
        label=label,
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
