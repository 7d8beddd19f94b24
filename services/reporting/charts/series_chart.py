"""A panel of series as a chart of the page."""

from collections.abc import Iterable
from itertools import pairwise

from services.reporting.charts.axis import Axis, axis_over, scaled_label
from services.reporting.charts.chart import Chart, Curve, Line, Mark, from_top, percent_label
from services.reporting.charts.series import Panel, Point, Scale, Series

NEAR = 1.5
"""Error bars that are nearer to each other than this (percent of the width) would hide each other."""
SHIFT_PIXELS = 10


def series_chart(panel: Panel) -> Chart | None:
    """The chart; None if there is no point to draw."""
    points = list(panel.points)
    if not points:
        return None
    heights = [height for point in points for height in (point.y, *(point.interval or ()))]
    return _Builder(_axis(panel.x, (point.x for point in points)), _axis(panel.y, heights)).chart(panel)


def _axis(scale: Scale, values: Iterable[float]) -> Axis:
    return axis_over(scale.title, values, percent_label if scale.units is None else scaled_label(scale.units))


class _Builder:
    def __init__(self, x: Axis, y: Axis) -> None:
        self.x, self.y = x, y
        self.barred: list[float] = []
        """Where there are marks with error bars already."""

    def chart(self, panel: Panel) -> Chart:
        marks = [self._mark(point, series) for series in panel.series for point in series.points]
        curves = [Curve(series.tone, tuple(self._joined(series))) for series in panel.series if series.join != "none"]
        links = [self._links(series) for series in panel.series]
        return Chart(self.x, self.y, tuple(marks), curves=tuple(curve for curve in (*curves, *links) if curve.lines))

    def _place(self, x: float, y: float) -> tuple[float, float]:
        return self.x.place(x), from_top(self.y, y)

    def _mark(self, point: Point, series: Series) -> Mark:
        across, height = self._place(point.x, point.y)
        bar, shift = None, 0
        if point.interval is not None:
            low, high = point.interval
            bar = (from_top(self.y, high), from_top(self.y, low))
            shift = SHIFT_PIXELS * sum(abs(across - other) < NEAR for other in self.barred)
            self.barred.append(across)
        hollow = series.hollow or point.hollow
        return Mark(across, height, series.shape, series.tone, point.tip, bar=bar, shift=shift, hollow=hollow)

    def _joined(self, series: Series) -> Iterable[Line]:
        places = [self._place(point.x, point.y) for point in sorted(series.points, key=lambda point: point.x)]
        for (left, start), (right, end) in pairwise(places):
            if series.join == "straight":
                yield left, start, right, end
            else:
                yield left, start, right, start
                yield right, start, right, end

    def _links(self, series: Series) -> Curve:
        pairs = [(point, point.origin) for point in series.points if point.origin is not None]
        lines = (self._place(*origin) + self._place(point.x, point.y) for point, origin in pairs)
        return Curve(series.tone, tuple(lines), thin=True)
