"""The columns of the page's table: those that have anything to say in this search."""

from collections.abc import Callable
from dataclasses import dataclass

from services.reporting import wording
from services.reporting.networks import Listed, listed
from services.reporting.objectives import MEASURES, Measure
from services.reporting.report_data import Comparison, NetworkRow, ReportContent, SpeedRow, TaskRow


@dataclass(frozen=True)
class Cell:
    """What is shown, and the number that sorts it (None: it comes last)."""

    shown: str
    value: float | None


COMPARED = "points (95 %); p, corrected"
NOTHING = Cell(wording.NOT_MEASURED, None)


@dataclass(frozen=True)
class Column:
    """`unit` explains the title; `cell` fills the column for a network."""

    title: str
    unit: str
    cell: Callable[[Listed], Cell]


def columns(content: ReportContent) -> tuple[Column, ...]:
    """All columns after the name that hold a number for at least one network."""
    tasks = tuple(content.dense.by_task)
    # A single task's accuracy is the accuracy, unless lm-eval counts the parts of a group in another way.
    apart = len(tasks) > 1 or any(
        task.accuracy != content.dense.report_accuracy for task in content.dense.by_task.values()
    )
    everything = (
        Column("Layers", "", lambda each: _count(each.row.architecture.depth)),
        Column("Narrow MLPs", "", lambda each: _count(each.row.narrow_mlps)),
        _measured(MEASURES["parameters"]),
        Column("INT8", "", lambda each: Cell("yes", 1) if each.int8 else Cell("no", None)),
        _measured(MEASURES["bytes"]),
        Column("Cache", "a token", lambda each: _size(each.row.cache_bytes_per_token)),
        Column("Ratio", "dense : this", lambda each: Cell(f"{each.row.ratio:.2f}", each.row.ratio)),
        Column("Accuracy", "search part", lambda each: _share(each.row.search_accuracy)),
        Column(
            "Accuracy", "report part (95 %)", lambda each: _with_interval(each.row.report_accuracy, each.row.interval)
        ),
        Column("Change by INT8", COMPARED, lambda each: _compared(each.row.versus_original)),
        Column("Against dense", COMPARED, lambda each: _compared(each.row.versus_dense)),
        Column("Against base", COMPARED, lambda each: _compared(each.row.versus_base)),
        Column("Against random", COMPARED, lambda each: _compared(each.row.versus_random)),
        *(column for task in tasks if apart for column in _of_task(task, _task(task))),
        *_of_task("Tasks alike", lambda row: row.macro),
        _measured(MEASURES["prefill_seconds"]),
        _measured(MEASURES["decode_seconds"]),
        Column("Prefill", "measured tokens/s", lambda each: _rate(each.row.speed.prefill if each.row.speed else None)),
        Column("Decode", "measured tokens/s", lambda each: _rate(each.row.speed.decode if each.row.speed else None)),
        Column("Measured", "by, on", lambda each: _place(each.row.speed)),
    )
    networks = listed(content)
    return tuple(column for column in everything if any(column.cell(each).value is not None for each in networks))


def _place(speed: SpeedRow | None) -> Cell:
    return NOTHING if speed is None else Cell(f"{speed.engine}, {speed.device}", 0)


def _measured(measure: Measure) -> Column:
    def cell(each: Listed) -> Cell:
        value = measure.of(each.row)
        return NOTHING if value is None else Cell(measure.show(value), value)

    return Column(measure.title, measure.unit, cell)


def _task(task: str) -> Callable[[NetworkRow], TaskRow | None]:
    return lambda row: row.by_task.get(task)


def _of_task(title: str, of: Callable[[NetworkRow], TaskRow | None]) -> tuple[Column, ...]:
    """What a network is on one task, or on all tasks counting the same."""

    def against(row: NetworkRow, name: str) -> Cell:
        task = of(row)
        return NOTHING if task is None else _compared(getattr(task, name))

    def accuracy(row: NetworkRow) -> Cell:
        task = of(row)
        return NOTHING if task is None else _with_interval(task.accuracy, task.interval)

    return (
        Column(title, "report part (95 %)", lambda each: accuracy(each.row)),
        Column(f"{title}, against dense", COMPARED, lambda each: against(each.row, "versus_dense")),
        Column(f"{title}, against base", COMPARED, lambda each: against(each.row, "versus_base")),
    )


def _count(number: int) -> Cell:
    return Cell(str(number), number)


def _share(share: float | None) -> Cell:
    return Cell(wording.percent(share), share)


def _size(count: int) -> Cell:
    return Cell(wording.size(count), count)


def _with_interval(accuracy: float | None, interval: tuple[float, float] | None) -> Cell:
    if accuracy is None:
        return NOTHING
    return Cell(f"{wording.percent(accuracy)} ({wording.interval(interval)})", accuracy)


def _compared(comparison: Comparison | None) -> Cell:
    if comparison is None:
        return NOTHING
    shown = (
        f"{wording.points(comparison.difference)} ({wording.points_interval(comparison.interval)}); "
        f"{wording.p_value(comparison.p_value)}, {wording.p_value(comparison.corrected)}"
    )
    return Cell(shown, comparison.difference)


def _rate(repeats: tuple[float, float, float] | None) -> Cell:
    return NOTHING if repeats is None else Cell(wording.rate(repeats), repeats[0])
