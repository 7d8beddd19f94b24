"""The charts of the page as geometry: every place in percent, so that the browser can stretch them to any width."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from services.coordinator.report import wording
from services.coordinator.report.axis import Axis, axis_over, count_axis, decimals
from services.coordinator.report.content import EvaluatedNetwork, NetworkRow, ReportContent

NEAR = 1.5
"""Marks of one shape's size that are nearer than this (percent of the width) would cover each other."""
SHIFT_PIXELS = 10
LABEL_GAPS = {"always": 11.0, "wide": 4.5}
"""How far apart names must be to be legible on a telephone, and on a wide screen (percent of the width)."""


@dataclass(frozen=True)
class Mark:
    """One point: percent from the left and from the top; `bar` the two ends of its error bar; `network` what it stands
    for elsewhere on the page, None if nothing does."""

    x: float
    y: float
    shape: str
    part: str
    tip: str
    network: str | None = None
    bar: tuple[float, float] | None = None
    shift: int = 0


@dataclass(frozen=True)
class Label:
    """A mark's name: `when` it has room (see LABEL_GAPS)."""

    x: float
    y: float
    text: str
    part: str
    when: str


@dataclass(frozen=True)
class Chart:
    """What all charts have: two axes, marks, and `lines` that join them (x1, y1, x2, y2)."""

    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    lines: tuple[tuple[float, float, float, float], ...] = ()
    labels: tuple[Label, ...] = ()
    reference: float | None = None


def network_keys(content: ReportContent) -> tuple[str, ...]:
    """The keys by which the page knows the networks of the front; unlike names they need no escaping."""
    return tuple(f"n{index}" for index in range(1, len(content.front) + 1))


def front_chart(content: ReportContent) -> Chart:
    """Accuracy over size: everything the search measured, the front on both parts, and the two references."""
    rows = (*content.front, content.dense, content.base)
    sizes = [network.parameters for network in content.evaluated] + [row.parameters for row in rows]
    x = axis_over("Parameters", sizes, _parameters_label)
    accuracies = [network.search_accuracy for network in content.evaluated]
    accuracies += [row.search_accuracy for row in rows if row.search_accuracy is not None]
    accuracies += [bound for row in rows for bound in row.interval]
    y = axis_over("Accuracy", accuracies, _percent_label)
    keyed = tuple(zip(network_keys(content), content.front, strict=True))
    known = {row.architecture.digest: (key, row.name) for key, row in keyed}
    seen = [_seen(network, x, y, known) for network in content.evaluated]
    reported = [_reported(row, x, y, "front", key) for key, row in keyed]
    searched_front = sorted((mark for mark in seen if mark.shape == "front"), key=lambda mark: mark.x)
    return Chart(
        x,
        y,
        marks=(*sorted(seen, key=lambda mark: mark.shape == "front"), *reported, *_references(content, x, y)),
        lines=_staircase(searched_front),
        labels=(*_labels(content, x, y, "report"), *_labels(content, x, y, "search")),
        reference=_top(y, content.dense.report_accuracy),
    )


def hypervolume_chart(content: ReportContent) -> Chart | None:
    """Hypervolume over the number of measured networks; None if no generation was finished."""
    rows = content.generations
    if not rows:
        return None
    x = count_axis("Networks measured", [0, *(row.evaluations for row in rows)])
    y = axis_over("Hypervolume", [row.hypervolume for row in rows], _plain_label)
    marks = tuple(
        Mark(
            x.place(row.evaluations),
            _top(y, row.hypervolume),
            "state",
            "all",
            f"Generation {row.generation}\n{row.evaluations} networks measured\n"
            f"hypervolume {wording.number(row.hypervolume)}",
        )
        for row in rows
    )
    joined = tuple((left.x, left.y, right.x, right.y) for left, right in pairwise(marks))
    return Chart(x, y, marks, joined)


def tau_chart(content: ReportContent) -> Chart | None:
    """Kendall's tau of each generation's predictor; None if none was used."""
    measured = [(row, row.kendall_tau) for row in content.generations if row.kendall_tau is not None]
    if not measured:
        return None
    x = count_axis("Generation", [row.generation for row, _ in measured])
    y = axis_over("Kendall's τ", [0.0, 1.0, *(tau for _, tau in measured)], _plain_label)
    marks = []
    for row, tau in measured:
        tip = f"Generation {row.generation}\nKendall's τ {wording.number(tau)}"
        if row.mean_absolute_error is not None:
            tip += f"\nmean absolute error {wording.number(100 * row.mean_absolute_error)} points"
        if row.predictor is not None:
            tip += f"\npredictor: {row.predictor}"
        marks.append(Mark(x.place(row.generation), _top(y, tau), "state", "all", tip))
    stems = tuple((mark.x, _top(y, 0), mark.x, mark.y) for mark in marks)
    return Chart(x, y, tuple(marks), stems, reference=_top(y, 0))


def _seen(network: EvaluatedNetwork, x: Axis, y: Axis, known: dict[str, tuple[str, str]]) -> Mark:
    key, name = known.get(network.architecture.digest, (None, None)) if network.on_front else (None, None)
    shape, part = ("front", "search") if network.on_front else ("seen", "seen")
    measured = f"network {network.number}, generation {network.generation}"
    tip = (
        f"{f'{name} ({measured})' if name else measured.capitalize()}\n"
        f"{wording.parameters(network.parameters)} parameters, {network.architecture.depth} layers\n"
        f"{wording.percent(network.search_accuracy)} on the search part"
    )
    return Mark(x.place(network.parameters), _top(y, network.search_accuracy), shape, part, tip, key)


def _reported(row: NetworkRow, x: Axis, y: Axis, shape: str, key: str) -> Mark:
    tip = (
        f"{row.name}\n{wording.parameters(row.parameters)} parameters, {row.architecture.depth} layers\n"
        f"{wording.percent(row.report_accuracy)} on the report part (95 %: {wording.interval(row.interval)})"
    )
    low, high = row.interval
    place = (x.place(row.parameters), _top(y, row.report_accuracy))
    return Mark(*place, shape, "report", tip, key, bar=(_top(y, high), _top(y, low)))


def _references(content: ReportContent, x: Axis, y: Axis) -> list[Mark]:
    """Dense and base, set beside what has the same size: base is as large as dense, and dense may be on the front."""
    taken = [x.place(row.parameters) for row in content.front]
    marks: list[Mark] = []
    shift = 0
    for row in (content.dense, content.base):
        place = x.place(row.parameters)
        shift = shift + SHIFT_PIXELS if any(abs(place - other) < NEAR for other in taken) else 0
        taken.append(place)
        shape = "dense" if row is content.dense else "base"
        mark = replace(_reported(row, x, y, shape, shape), shift=shift)
        if row.search_accuracy is not None:
            tip = (
                f"{row.name}\n{wording.parameters(row.parameters)} parameters, {row.architecture.depth} layers\n"
                f"{wording.percent(row.search_accuracy)} on the search part"
            )
            top = _top(y, row.search_accuracy)
            marks.append(replace(mark, y=top, part="search", tip=tip, bar=None))
        marks.append(mark)
    return marks


def _labels(content: ReportContent, x: Axis, y: Axis, part: str) -> list[Label]:
    """Names of the front's networks, as many as have room."""
    labels: list[Label] = []
    last = dict.fromkeys(LABEL_GAPS, -100.0)
    for row in sorted(content.front, key=lambda row: row.parameters):
        height = row.interval[1] if part == "report" else row.search_accuracy
        place = x.place(row.parameters)
        roomy = [when for when, gap in LABEL_GAPS.items() if place - last[when] >= gap]
        if height is None or "wide" not in roomy:
            continue
        last.update(dict.fromkeys(roomy, place))
        labels.append(Label(place, _top(y, height), row.name, part, roomy[0]))
    return labels


def _staircase(marks: Sequence[Mark]) -> tuple[tuple[float, float, float, float], ...]:
    """The best accuracy for every size: level up to the next larger network, then up."""
    steps = []
    for left, right in pairwise(marks):
        steps += [(left.x, left.y, right.x, left.y), (right.x, left.y, right.x, right.y)]
    return tuple(steps)


def _top(y: Axis, value: float) -> float:
    return round(100 - y.place(value), 2)


def _parameters_label(value: float, step: float) -> str:
    for scale, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.{decimals(step / scale)}f}{wording.SPACE}{unit}"
    return f"{value:.0f}"


def _percent_label(value: float, step: float) -> str:
    return f"{100 * value:.{decimals(100 * step)}f}{wording.SPACE}%"


def _plain_label(value: float, step: float) -> str:
    if abs(value) >= 1e5:
        return _parameters_label(value, step)
    return f"{value:.{decimals(step)}f}".replace("-", wording.MINUS)
