"""What all still pictures have in common: colours, fonts, frames, and that the same content always gives the same
bytes."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import FuncFormatter

INK, SOFT, RULE, SEEN = "#1b2230", "#5a6477", "#dfe3ea", "#b4bcc8"
SEARCH, REPORT = "#2360d8", "#c9500a"
# Without a fixed salt the identifiers within the SVG differ from run to run.
STYLE = {
    "svg.hashsalt": "nasfarm",
    "svg.fonttype": "path",
    "font.size": 10.0,
    "font.family": "DejaVu Sans",
    "text.parse_math": False,  # names may contain any sign
}
TONES = {
    "tone-0": INK,
    "tone-1": SEARCH,
    "tone-2": REPORT,
    "tone-3": "#8035d6",
    "tone-4": "#0b7a55",
    "tone-5": "#a3195b",
}
"""The page's palette."""
MARKERS = {"front": "o", "dense": "s", "base": "^", "random": "D", "down": "v", "cross": "P", "star": "*", "seen": "o"}
"""The page's shapes."""


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


def plain_frame(axes: Axes, grid: Literal["x", "y"] = "y") -> None:
    """Grid lines from the ticks of one axis and a line below, nothing else."""
    axes.grid(axis=grid, color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=SOFT, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(SOFT)


def legend_below(figure: FigureBase, columns: int = 2, entries: Sequence[tuple[Artist, str]] = ()) -> None:
    """The legend: of these entries, or of all that is drawn."""
    options: dict[str, Any] = {"loc": "outside lower center", "ncols": columns, "frameon": False, "fontsize": 9}
    if entries:
        options.update(handles=[handle for handle, _ in entries], labels=[label for _, label in entries])
    figure.legend(labelcolor=INK, **options)
