"""Points in several series over two quantities, as data: the page and the still pictures draw from the same."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from services.reporting import wording

Join = Literal["none", "straight", "steps"]
"""How a series' points are joined, from left to right: `steps` is level up to the next point, then up."""


@dataclass(frozen=True)
class Scale:
    """A quantity along an axis; without `units` it is a share, shown in percent."""

    title: str
    units: wording.Units | None = None


ACCURACY = Scale("Accuracy")


@dataclass(frozen=True)
class Point:
    """One point; `tip` says what it is, `interval` spans its error bar, a thin line joins it to `origin`; `hollow`
    marks INT8, or weights that were not tuned."""

    x: float
    y: float
    tip: str
    interval: tuple[float, float] | None = None
    origin: tuple[float, float] | None = None
    hollow: bool = False


@dataclass(frozen=True)
class Series:
    """Points of one kind: `tone` names a colour of the palette, `shape` a mark."""

    name: str
    tone: str
    shape: str
    points: tuple[Point, ...]
    join: Join = "none"
    hollow: bool = False


@dataclass(frozen=True)
class Panel:
    """One chart of several series; what comes first lies below."""

    title: str
    x: Scale
    series: tuple[Series, ...]
    y: Scale = ACCURACY

    @property
    def points(self) -> Iterator[Point]:
        """Those of all series."""
        return (point for series in self.series for point in series.points)


def legend(*panels: Panel) -> tuple[Series, ...]:
    """A series of each name, in the order in which they first occur."""
    return tuple({series.name: series for panel in reversed(panels) for series in reversed(panel.series)}.values())[
        ::-1
    ]
