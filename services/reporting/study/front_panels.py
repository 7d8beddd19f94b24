"""The fronts of a study's searches as charts: over size, over measured throughput, over memory, in INT8 too."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from services.reporting import wording
from services.reporting.charts.series import Panel, Point, Scale, Series
from services.reporting.study.marks import Marks, accuracy_in_words, searched_on, size_in_words
from services.reporting.study.study_data import FrontRow, Seen, StudyContent, StudyFront

PARAMETERS = Scale("Parameters", wording.COUNTS)
MEMORY = Scale("Weights in memory", wording.BYTES)
THROUGHPUT = {
    "decode": Scale("Decode, tokens/s measured", wording.COUNTS),
    "prefill": Scale("Prefill, tokens/s measured", wording.COUNTS),
}

Across = Callable[[FrontRow], float]
"""What a chart shows a network over."""


def fronts_by_aim(content: StudyContent) -> dict[str, list[StudyFront]]:
    """The fronts that were chosen on the same task, or on all together, in the order of the searches."""
    aims = dict.fromkeys(front.chosen_on for front in content.fronts)
    return {aim: [front for front in content.fronts if front.chosen_on == aim] for aim in aims}


def front_panels(content: StudyContent) -> dict[str, Panel]:
    """By aim: what the searches saw, on search items; the fronts and their controls, on report items."""
    marks = Marks(content)
    return {
        aim: _panel(searched_on(aim), PARAMETERS, chain(_seen(fronts, marks), _reported(fronts, marks, _parameters)))
        for aim, fronts in fronts_by_aim(content).items()
    }


def throughput_panels(content: StudyContent) -> dict[str, Panel]:
    """By phase: the fronts whose speed was measured, over it."""
    marks = Marks(content)
    fronts = [_only(front, front.timed) for front in content.fronts if front.timed]
    if not fronts:
        return {}
    aim = searched_on(fronts[0].chosen_on)
    return {
        phase: _panel(f"{aim}, {phase}", scale, _reported(fronts, marks, _tokens_per_second(phase), bars=True))
        for phase, scale in THROUGHPUT.items()
    }


def int8_panels(content: StudyContent) -> dict[str, Panel]:
    """By aim: the fronts over memory, and their networks in INT8, each joined to its original."""
    marks = Marks(content)
    panels = {}
    for aim, fronts in fronts_by_aim(content).items():
        twinned = [_only(front, _originals(front)) for front in fronts if front.int8]
        series = chain(_reported(twinned, marks, _bytes, bars=False), *(_twins(front, marks) for front in twinned))
        panels[aim] = _panel(searched_on(aim), MEMORY, series)
    return {aim: panel for aim, panel in panels.items() if panel.series}


def _panel(title: str, x: Scale, series: Iterable[Series]) -> Panel:
    return Panel(title, x, tuple(each for each in series if each.points))


def _only(front: StudyFront, rows: Sequence[FrontRow]) -> StudyFront:
    """The front without the rows that are not listed; its INT8 twins stay."""
    kept = {name: tuple(row for row in getattr(front, name) if row in rows) for name in ("rows", "controls", "random")}
    return front.model_copy(update=kept)


def _originals(front: StudyFront) -> list[FrontRow]:
    """The networks of a front that were measured in INT8 again."""
    twins = {row.name for row in front.int8}
    return [row for row in (*front.rows, *front.controls) if _twin_name(row) in twins]


def _twin_name(row: FrontRow) -> str:
    return f"{row.name} int8"


def _seen(fronts: Sequence[StudyFront], marks: Marks) -> Iterator[Series]:
    """All that was measured on search items, and the fronts among it."""
    for front in fronts:
        dots = tuple(Point(each.parameters, each.search_accuracy, _seen_tip(front, each)) for each in front.seen)
        yield Series(f"{front.supernet}: seen by the search (search items)", marks.tone(front.supernet), "seen", dots)
    for front in fronts:
        steps = tuple(Point(each.parameters, each.search_accuracy, "") for each in front.seen if each.on_front)
        yield Series(f"{front.supernet}: front on search items", marks.tone(front.supernet), "none", steps, "steps")


def _reported(fronts: Sequence[StudyFront], marks: Marks, across: Across, bars: bool = True) -> Iterator[Series]:
    """Random networks without error bars, which would hide those of the fronts; then fronts, dense, and the base, which
    all super-networks share."""
    for front in fronts:
        tone, name = marks.tone(front.supernet), front.supernet
        yield Series(f"{name}: random", tone, "random", _points(name, front.random, across, bars=False))
        yield Series(f"{name}: front", tone, "front", _points(name, front.rows, across, bars))
        dense = [row for row in front.controls if row.name == "dense"]
        yield Series(f"{name}: dense", tone, "dense", _points(name, dense, across, bars))
    bases = [row for front in fronts for row in front.controls if row.name == "base"]
    yield Series("base", marks.tone(None), "base", _points("", bases[:1], across, bars))


def _twins(front: StudyFront, marks: Marks) -> Iterator[Series]:
    originals = {_twin_name(row): row for row in _originals(front)}
    points = [
        Point(twin.bytes, twin.report.accuracy, _tip(front.supernet, twin), None, (original.bytes, was.accuracy), True)
        for twin in front.int8
        if (original := originals.get(twin.name)) and (was := original.report) and twin.report
    ]
    yield Series(f"{front.supernet}: in INT8", marks.tone(front.supernet), "front", tuple(points), hollow=True)


def _points(supernet: str, rows: Iterable[FrontRow], across: Across, bars: bool) -> tuple[Point, ...]:
    """Of the networks that were measured on report items."""
    measured = ((row, row.report) for row in rows if row.report is not None)
    return tuple(
        Point(across(row), report.accuracy, _tip(supernet, row), report.interval if bars else None)
        for row, report in measured
    )


def _tip(supernet: str, row: FrontRow) -> str:
    lines = [
        f"{supernet}: {row.name}" if supernet else row.name,
        f"{size_in_words(row.parameters, row.true_times_smaller)}",
        f"{row.architecture.depth} layers, {wording.size(row.bytes)} in memory",
    ]
    if row.speed is not None:
        phases = (f"{phase} {wording.rate(getattr(row.speed, phase))}" for phase in ("prefill", "decode"))
        lines.append(f"{', '.join(phases)} tokens/s")
    if row.report is not None:
        lines.append(f"{accuracy_in_words(row.report)} on report items")
    return "\n".join(lines)


def _seen_tip(front: StudyFront, seen: Seen) -> str:
    return (
        f"{front.supernet}: {'on the front' if seen.on_front else 'seen by the search'}\n"
        f"{wording.parameters(seen.parameters)} parameters\n{wording.percent(seen.search_accuracy)} on search items"
    )


def _parameters(row: FrontRow) -> float:
    return row.parameters


def _bytes(row: FrontRow) -> float:
    return row.bytes


def _tokens_per_second(phase: str) -> Across:
    """The median of the repeats."""
    return lambda row: float(getattr(row.speed, phase)[0])
