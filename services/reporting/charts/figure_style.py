"""What all still pictures have in common: colours, fonts, frames, and that the same content always gives the same
bytes."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import FuncFormatter

INK, SOFT, RULE, SEEN = "#1b2230", "#5a6477", "#dfe3ea", "#b4bcc8"
SEARCH, REPORT = "#2360d8", "#c9500a"
# Without a fixed salt the identifiers within the SVG differ from run to run.
STYLE = {"svg.hashsalt": "nasfarm", "svg.fonttype": "path", "font.size": 10.0, "font.family": "DejaVu Sans"}


@dataclass
class Picture:
    """A figure to draw on; `svg` is filled when it is done."""

    figure: Figure
    svg: bytes = b""


@contextmanager
def still_picture(width: float, height: float) -> Iterator[Picture]:
    """A white figure of a size in inches, saved as SVG on leaving."""
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        picture = Picture(Figure(figsize=(width, height), layout="constrained", facecolor="white"))
        FigureCanvasSVG(picture.figure)
        yield picture
        buffer = io.BytesIO()
        picture.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    picture.svg = buffer.getvalue()


def percent_axis(axes: Axes) -> None:
    """Ticks of the vertical axis, which shows percentages."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))


def plain_frame(axes: Axes) -> None:
    """Level grid lines and a line below, nothing else."""
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=SOFT, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(SOFT)


def legend_below(figure: FigureBase, columns: int = 2) -> None:
    """The legend of all axes."""
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=9, labelcolor=INK)
