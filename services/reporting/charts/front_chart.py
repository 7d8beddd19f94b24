"""The front as charts: accuracy over each cost that the networks have."""

from dataclasses import dataclass, replace
from itertools import pairwise

from services.reporting import wording
from services.reporting.charts.axis import Axis, axis_over, scaled_label
from services.reporting.charts.chart import Chart, Line, Mark, MarkLabel, from_top, percent_label
from services.reporting.displayed_costs import DisplayedCost, displayed_costs, front_by_cost
from services.reporting.listed_networks import ListedNetwork, drawable_int8_twins, front_keys, listed_networks
from services.reporting.report_data import EvaluatedNetwork, NetworkRow, ReportContent

NEAR = 1.5
"""Marks that are nearer to each other than this (percent of the width) overlap."""
SHIFT_PIXELS = 10
LABEL_GAPS = {"always": 11.0, "wide": 4.5}
"""How far apart names must be to be legible on a phone, and on a wide screen (percent of the width)."""


def front_charts(content: ReportContent) -> tuple[tuple[DisplayedCost, Chart], ...]:
    """A chart for each cost, first the one that is shown first."""
    return tuple((cost, _FrontChartBuilder(content, cost).chart()) for cost in displayed_costs(content))


@dataclass(frozen=True)
class _Position:
    """A place in the chart: percent of the width from the left, percent of the height from the top."""

    x: float
    y: float


class _FrontChartBuilder:
    """Makes the chart of one cost: everything the search measured, the front on both parts with its INT8 twins, and the
    two references."""

    def __init__(self, content: ReportContent, cost: DisplayedCost) -> None:
        self.content = content
        self.cost = cost
        self.front = tuple(zip(front_keys(content), content.front, strict=True))
        self.known = {row.architecture: (key, row.name) for key, row in self.front}
        self.reported_front = tuple((key, row) for key, row in self.front if row.report_accuracy is not None)
        self.random = [each for each in listed_networks(content) if each.random]
        self.twins = drawable_int8_twins(content, cost)
        self.x, self.y = self._axes()

    def chart(self) -> Chart:
        """The whole chart; what is drawn first lies below."""
        content = self.content
        seen = [self._seen(network) for network in content.evaluated]
        reported = [self._reported(row, "front", key) for key, row in self.reported_front]
        # Without error bars, which would hide those of the front.
        random = [replace(self._reported(each.row, "random", each.key), bar=None) for each in self.random]
        twins = [self._twin(twin, original) for twin, original in self.twins]
        return Chart(
            self.x,
            self.y,
            marks=(
                *sorted(seen, key=lambda mark: mark.shape == "front"),
                *random,
                *reported,
                *twins,
                *self._references(),
            ),
            lines=self._staircase(),
            links=tuple(self._link(twin.row, original) for twin, original in self.twins),
            labels=(*self._labels("report"), *self._labels("search")),
            reference=from_top(self.y, content.dense.reported[0]),
        )

    def _axes(self) -> tuple[Axis, Axis]:
        content, cost = self.content, self.cost
        reported = (*content.reported, content.dense, content.base)
        rows = (*content.front, content.dense, content.base)
        twins = [*(twin.row for twin, _ in self.twins), *content.random]
        networks: tuple[NetworkRow | EvaluatedNetwork, ...] = (*content.evaluated, *rows, *twins)
        values = [cost.of(network) for network in networks]
        title = f"{cost.title} ({cost.unit})" if cost.unit else cost.title
        x = axis_over(title, [value for value in values if value is not None], scaled_label(cost.units))
        accuracies = [network.search_accuracy for network in content.evaluated]
        accuracies += [row.search_accuracy for row in rows if row.search_accuracy is not None]
        accuracies += [bound for row in reported for bound in row.reported[1]]
        accuracies += [row.reported[0] for row in twins]
        return x, axis_over("Accuracy", accuracies, percent_label)

    def _position(self, network: NetworkRow | EvaluatedNetwork, accuracy: float) -> _Position:
        return _Position(self.x.place(self.cost.required_of(network)), from_top(self.y, accuracy))

    def _seen(self, network: EvaluatedNetwork) -> Mark:
        key, name = self.known.get(network.architecture, (None, None)) if network.on_front else (None, None)
        shape, part = ("front", "search") if network.on_front else ("seen", "seen")
        measured = f"network {network.number}, generation {network.generation}"
        tip = (
            f"{f'{name} ({measured})' if name else measured.capitalize()}\n{_about(network)}\n"
            f"{wording.percent(network.search_accuracy)} {wording.on_search_part(self.content.estimated)}"
        )
        place = self._position(network, network.search_accuracy)
        return Mark(place.x, place.y, shape, part, tip, key, hollow=_int8(network))

    def _reported(self, row: NetworkRow, shape: str, key: str) -> Mark:
        accuracy, interval = row.reported
        tip = (
            f"{row.name}\n{_about(row)}\n"
            f"{wording.percent(accuracy)} on the report part (95 %: {wording.interval(interval)})"
        )
        place = self._position(row, accuracy)
        low, high = (from_top(self.y, bound) for bound in interval)
        return Mark(place.x, place.y, shape, "report", tip, key, bar=(high, low), hollow=_int8(row))

    def _twin(self, twin: ListedNetwork, original: NetworkRow) -> Mark:
        """Without an error bar: the interval says little about the difference from the original, and would hide it."""
        shape = "dense" if original is self.content.dense else "front"
        mark = self._reported(twin.row, shape, twin.key)
        change = wording.points(twin.row.reported[0] - original.reported[0])
        return replace(mark, bar=None, twin=True, tip=f"{mark.tip}\n{change} points against {original.name}")

    def _link(self, twin: NetworkRow, original: NetworkRow) -> Line:
        here = self._position(twin, twin.reported[0])
        there = self._position(original, original.reported[0])
        return here.x, here.y, there.x, there.y

    def _references(self) -> list[Mark]:
        """Dense and base, shifted to the right of marks in the same place: base is as large as dense, and dense may be
        on the front."""
        content = self.content
        occupied = [self._position(row, 0.0).x for row in content.front]
        marks: list[Mark] = []
        shift = 0
        for row in (content.dense, content.base):
            place = self._position(row, 0.0).x
            shift = shift + SHIFT_PIXELS if any(abs(place - other) < NEAR for other in occupied) else 0
            occupied.append(place)
            shape = "dense" if row is content.dense else "base"
            mark = replace(self._reported(row, shape, shape), shift=shift)
            if row.search_accuracy is not None:
                part = wording.on_search_part(content.estimated and row is content.dense)
                tip = f"{row.name}\n{_about(row)}\n{wording.percent(row.search_accuracy)} {part}"
                height = from_top(self.y, row.search_accuracy)
                marks.append(replace(mark, y=height, part="search", tip=tip, bar=None))
            marks.append(mark)
        return marks

    def _labels(self, part: str) -> list[MarkLabel]:
        """Names of the front's networks, as many as there is room for."""
        labels: list[MarkLabel] = []
        last = dict.fromkeys(LABEL_GAPS, -100.0)
        for row in sorted(self.content.front, key=lambda row: self._position(row, 0.0).x):
            height = row.search_accuracy
            if part == "report":
                height = None if row.interval is None else row.interval[1]
            across = self._position(row, 0.0).x
            fitting = [when for when, gap in LABEL_GAPS.items() if across - last[when] >= gap]
            if height is None or "wide" not in fitting:
                continue
            last.update(dict.fromkeys(fitting, across))
            labels.append(MarkLabel(across, from_top(self.y, height), row.name, part, fitting[0]))
        return labels

    def _staircase(self) -> tuple[Line, ...]:
        """The highest accuracy at or below every value of the cost: level up to the next network, then up."""
        front = front_by_cost([network for network in self.content.evaluated if network.on_front], self.cost)
        places = [self._position(network, network.search_accuracy) for network in front]
        steps: list[Line] = []
        for left, right in pairwise(places):
            steps += [(left.x, left.y, right.x, left.y), (right.x, left.y, right.x, right.y)]
        return tuple(steps)


def _int8(network: NetworkRow | EvaluatedNetwork) -> bool:
    return network.architecture.quantization == "int8"


def _about(network: NetworkRow | EvaluatedNetwork) -> str:
    """A network's sizes and times for a tip."""
    skipped = len(network.architecture.without_attention)
    kind = (f", {skipped} without attention" if skipped else "") + (", INT8" if _int8(network) else "")
    text = f"{wording.parameters(network.parameters)} parameters, {network.architecture.depth} layers{kind}"
    text += f"\n{wording.size(network.bytes)} in memory"
    if network.kv_cache_bytes is not None:
        text += f", KV cache {wording.size(network.kv_cache_bytes)}"
    if network.prefill_seconds is not None:
        text += f", prefill {wording.duration(network.prefill_seconds)}"
    if network.decode_seconds is not None:
        text += f", decode step {wording.duration(network.decode_seconds)}"
    return text
