"""Shares that add up to a whole, stacked: one column for each class."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """A part of a column, between two heights (shares of the whole)."""

    name: str
    low: float
    high: float
    tip: str


@dataclass(frozen=True)
class StackedColumn:
    """A column of segments, from below; without any nothing was counted."""

    name: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class StackedColumns:
    """`names` are those of all segments, in the order of the legend; `axis` says what the columns are."""

    title: str
    axis: str
    names: tuple[str, ...]
    columns: tuple[StackedColumn, ...]

    @property
    def summary(self) -> str:
        """What is drawn, in words."""
        columns = (
            f"{column.name}: {', '.join(segment.tip.splitlines()[-1] for segment in column.segments) or 'none'}"
            for column in self.columns
        )
        return f"{self.title}. {'; '.join(columns)}"


def stacked(name: str, shares: dict[str, float], tips: dict[str, str]) -> StackedColumn:
    """A column of shares, from below in their order; those of nothing are left out."""
    segments, low = [], 0.0
    for part, share in shares.items():
        if share > 0:
            segments.append(Segment(part, low, low + share, tips[part]))
            low += share
    return StackedColumn(name, tuple(segments))
