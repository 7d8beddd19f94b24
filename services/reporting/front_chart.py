"""The front as charts: accuracy over each measure that the networks have."""

from dataclasses import dataclass, replace
from itertools import pairwise

from services.reporting import wording
from services.reporting.axis import Axis, axis_over, scaled_label
from services.reporting.charts import Chart, Label, Line, Mark, percent_label, top
from services.reporting.networks import Listed, front_keys, listed, twins_apart
from services.reporting.objectives import Measure, non_dominated, shown_measures
from services.reporting.report_data import EvaluatedNetwork, NetworkRow, ReportContent

NEAR = 1.5
"""Marks of one shape's size that are nearer than this (percent of the width) would cover each other."""
SHIFT_PIXELS = 10
LABEL_GAPS = {"always": 11.0, "wide": 4.5}
"""How far apart names must be to be legible on a telephone, and on a wide screen (percent of the width)."""


def front_charts(content: ReportContent) -> tuple[tuple[Measure, Chart], ...]:
    """A chart for each measure, the one to be shown first in front."""
    return tuple((measure, _Drawing(content, measure).chart()) for measure in shown_measures(content))


@dataclass(frozen=True)
class _Place:
    """What is drawn, and where it belongs: percent of the width and of the height."""

    x: float
    y: float


class _Drawing:
    """Everything the search measured, the front on both parts with its INT8 twins, and the two references."""

    def __init__(self, content: ReportContent, measure: Measure) -> None:
        self.content = content
        self.measure = measure
        self.front = tuple(zip(front_keys(content), content.front, strict=True))
        self.known = {row.architecture: (key, row.name) for key, row in self.front}
        self.reported_front = tuple((key, row) for key, row in self.front if row.report_accuracy is not None)
        self.random = [each for each in listed(content) if each.random]
        self.twins = twins_apart(content, measure)
        self.x, self.y = self._axes()

    def chart(self) -> Chart:
        """The whole chart; what is drawn first lies below."""
        content = self.content
        seen = [self._seen(network) for network in content.evaluated]
        reported = [self._reported(row, "front", key) for key, row in self.reported_front]
        # No bars: they would hide those of the front.
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
            reference=top(self.y, content.dense.reported[0]),
        )

    def _axes(self) -> tuple[Axis, Axis]:
        content, measure = self.content, self.measure
        reported = (*content.reported, content.dense, content.base)
        rows = (*content.front, content.dense, content.base)
        twins = [*(twin.row for twin, _ in self.twins), *content.random]
        networks: tuple[NetworkRow | EvaluatedNetwork, ...] = (*content.evaluated, *rows, *twins)
        values = [measure.of(network) for network in networks]
        title = f"{measure.title} ({measure.unit})" if measure.unit else measure.title
        x = axis_over(title, [value for value in values if value is not None], scaled_label(measure.units))
        accuracies = [network.search_accuracy for network in content.evaluated]
        accuracies += [row.search_accuracy for row in rows if row.search_accuracy is not None]
        accuracies += [bound for row in reported for bound in row.reported[1]]
        accuracies += [row.reported[0] for row in twins]
        return x, axis_over("Accuracy", accuracies, percent_label)

    def _place(self, network: NetworkRow | EvaluatedNetwork, accuracy: float) -> _Place:
        """Raises ValueError for a network that lacks the measure: it has no place."""
        value = self.measure.of(network)
        if value is None:
            raise ValueError(f"a network without {self.measure.objective} has no place on this axis")
        return _Place(self.x.place(value), top(self.y, accuracy))

    def _seen(self, network: EvaluatedNetwork) -> Mark:
        key, name = self.known.get(network.architecture, (None, None)) if network.on_front else (None, None)
        shape, part = ("front", "search") if network.on_front else ("seen", "seen")
        measured = f"network {network.number}, generation {network.generation}"
        tip = (
            f"{f'{name} ({measured})' if name else measured.capitalize()}\n{_about(network)}\n"
            f"{wording.percent(network.search_accuracy)} on the search part"
        )
        place = self._place(network, network.search_accuracy)
        return Mark(place.x, place.y, shape, part, tip, key, hollow=_int8(network))

    def _reported(self, row: NetworkRow, shape: str, key: str) -> Mark:
        accuracy, interval = row.reported
        tip = (
            f"{row.name}\n{_about(row)}\n"
            f"{wording.percent(accuracy)} on the report part (95 %: {wording.interval(interval)})"
        )
        place = self._place(row, accuracy)
        low, high = (top(self.y, bound) for bound in interval)
        return Mark(place.x, place.y, shape, "report", tip, key, bar=(high, low), hollow=_int8(row))

    def _twin(self, twin: Listed, original: NetworkRow) -> Mark:
        """No bar: its interval says little of the difference from its original, and would hide it."""
        shape = "dense" if original is self.content.dense else "front"
        mark = self._reported(twin.row, shape, twin.key)
        lost = wording.points(twin.row.reported[0] - original.reported[0])
        return replace(mark, bar=None, twin=True, tip=f"{mark.tip}\n{lost} points against {original.name}")

    def _link(self, twin: NetworkRow, original: NetworkRow) -> Line:
        here = self._place(twin, twin.reported[0])
        there = self._place(original, original.reported[0])
        return here.x, here.y, there.x, there.y

    def _references(self) -> list[Mark]:
        """Dense and base, set beside what has the same place: base is as large as dense, and dense may be on the
        front."""
        content = self.content
        taken = [self._place(row, 0.0).x for row in content.front]
        marks: list[Mark] = []
        shift = 0
        for row in (content.dense, content.base):
            place = self._place(row, 0.0).x
            shift = shift + SHIFT_PIXELS if any(abs(place - other) < NEAR for other in taken) else 0
            taken.append(place)
            shape = "dense" if row is content.dense else "base"
            mark = replace(self._reported(row, shape, shape), shift=shift)
            if row.search_accuracy is not None:
                tip = f"{row.name}\n{_about(row)}\n{wording.percent(row.search_accuracy)} on the search part"
                height = top(self.y, row.search_accuracy)
                marks.append(replace(mark, y=height, part="search", tip=tip, bar=None))
            marks.append(mark)
        return marks

    def _labels(self, part: str) -> list[Label]:
        """Names of the front's networks, as many as have room."""
        labels: list[Label] = []
        last = dict.fromkeys(LABEL_GAPS, -100.0)
        for row in sorted(self.content.front, key=lambda row: self._place(row, 0.0).x):
            height = row.search_accuracy
            if part == "report":
                height = None if row.interval is None else row.interval[1]
            across = self._place(row, 0.0).x
            roomy = [when for when, gap in LABEL_GAPS.items() if across - last[when] >= gap]
            if height is None or "wide" not in roomy:
                continue
            last.update(dict.fromkeys(roomy, across))
            labels.append(Label(across, top(self.y, height), row.name, part, roomy[0]))
        return labels

    def _staircase(self) -> tuple[Line, ...]:
        """The best accuracy for every value of the measure: level up to the next network, then up."""
        best = non_dominated([network for network in self.content.evaluated if network.on_front], self.measure)
        places = [self._place(network, network.search_accuracy) for network in best]
        steps: list[Line] = []
        for left, right in pairwise(places):
            steps += [(left.x, left.y, right.x, left.y), (right.x, left.y, right.x, right.y)]
        return tuple(steps)


def _int8(network: NetworkRow | EvaluatedNetwork) -> bool:
    return network.architecture.quantization == "int8"


def _about(network: NetworkRow | EvaluatedNetwork) -> str:
    """A network's sizes and times for a tip."""
    kind = ", INT8" if _int8(network) else ""
    text = f"{wording.parameters(network.parameters)} parameters, {network.architecture.depth} layers{kind}"
    text += f"\n{wording.size(network.bytes)} in memory"
    if network.prefill_seconds is not None:
        text += f", prefill {wording.duration(network.prefill_seconds)}"
    if network.decode_seconds is not None:
        text += f", decode step {wording.duration(network.decode_seconds)}"
    return text
