"""The columns of the page's table: those that have anything to say in this search."""

from collections.abc import Callable
from dataclasses import dataclass

from services.coordinator.report import wording
from services.coordinator.report.content import Comparison, NetworkRow, ReportContent
from services.coordinator.report.networks import Listed, listed
from services.coordinator.report.objectives import MEASURES, Measure


@dataclass(frozen=True)
class Cell:
    """What is shown, and the number that sorts it (None: it comes last)."""

    shown: str
    value: float | None


NOTHING = Cell(wording.NOT_MEASURED, None)


@dataclass(frozen=True)
class Column:
    """`unit` explains the title; `cell` fills the column for a network."""

    title: str
    unit: str
    cell: Callable[[Listed], Cell]


def columns(content: ReportContent) -> tuple[Column, ...]:
    """All columns after the name that hold a number for at least one network."""
    tasks = tuple(content.dense.report_by_task)
    everything = (
        Column("Layers", "", lambda each: _count(each.row.architecture.depth)),
        Column("Narrow MLPs", "", lambda each: _count(each.row.narrow_mlps)),
        _measured(MEASURES["parameters"]),
        Column("INT8", "", lambda each: Cell("yes", 1) if each.int8 else Cell("no", None)),
        _measured(MEASURES["bytes"]),
        Column("Ratio", "dense : this", lambda each: Cell(f"{each.row.ratio:.2f}", each.row.ratio)),
        Column("Accuracy", "search part", lambda each: _share(each.row.search_accuracy)),
        Column("Accuracy", "report part (95 %)", lambda each: _with_interval(each.row)),
        Column("Change by INT8", "points", _quantised),
        # A single task's accuracy is the accuracy.
        *(_task(task) for task in tasks if len(tasks) > 1),
        Column("Against dense", "points (p)", lambda each: _compared(each.row.versus_dense)),
        Column("Against base", "points (p)", lambda each: _compared(each.row.versus_base)),
        _measured(MEASURES["prefill_seconds"]),
        _measured(MEASURES["decode_seconds"]),
        Column("Prefill", "measured tokens/s", lambda each: _rate(each.row.speed.prefill if each.row.speed else None)),
        Column("Decode", "measured tokens/s", lambda each: _rate(each.row.speed.decode if each.row.speed else None)),
    )
    networks = listed(content)
    return tuple(column for column in everything if any(column.cell(each).value is not None for each in networks))


def _measured(measure: Measure) -> Column:
    def cell(each: Listed) -> Cell:
        value = measure.of(each.row)
        return NOTHING if value is None else Cell(measure.show(value), value)

    return Column(measure.title, measure.unit, cell)


def _task(task: str) -> Column:
    return Column(task, "report part", lambda each: _share(each.row.report_by_task.get(task)))


def _count(number: int) -> Cell:
    return Cell(str(number), number)


def _share(share: float | None) -> Cell:
    return Cell(wording.percent(share), share)


def _with_interval(row: NetworkRow) -> Cell:
    return Cell(f"{wording.percent(row.report_accuracy)} ({wording.interval(row.interval)})", row.report_accuracy)


def _quantised(each: Listed) -> Cell:
    if each.original is None:
        return NOTHING
    difference = each.row.report_accuracy - each.original.report_accuracy
    return Cell(wording.points(difference), difference)


def _compared(comparison: Comparison | None) -> Cell:
    if comparison is None:
        return NOTHING
    return Cell(
        f"{wording.points(comparison.difference)} ({wording.p_value(comparison.p_value)})", comparison.difference
    )


def _rate(repeats: tuple[float, float, float] | None) -> Cell:
    return NOTHING if repeats is None else Cell(wording.rate(repeats), repeats[0])
