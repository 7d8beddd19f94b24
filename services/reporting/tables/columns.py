"""The columns of the page's table, and what a column of any table is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.reporting import wording
from services.reporting.displayed_costs import COSTS
from services.reporting.listed_networks import ListedNetwork, listed_networks
from services.reporting.report_data import Comparison, NetworkRow, ReportContent, SpeedRow, TaskRow
from services.reporting.tables import cells
from services.reporting.tables.cells import EMPTY, TableCell
from shared.settings import Objective


@dataclass(frozen=True)
class Column:
    """`unit` explains the title; `cell` fills the column for a network."""

    title: str
    unit: str
    cell: Callable[[ListedNetwork], TableCell]


Columns = Sequence[Column]

COMPARED = "points (95 %); p, corrected"
"""The unit of the page's comparisons."""
TOKENS = "measured tokens/s"


def page_columns(content: ReportContent) -> Columns:
    """All columns of the page's table after the name that hold a number for at least one network."""
    tasks = tuple(content.dense.by_task)
    # A single task's accuracy is the accuracy, unless lm-eval counts the parts of a group in another way.
    apart = len(tasks) > 1 or any(
        task.accuracy != content.dense.report_accuracy for task in content.dense.by_task.values()
    )
    return with_values(
        (
            Column("Layers", "", lambda each: cells.count(each.row.architecture.depth)),
            Column("Narrow MLPs", "", lambda each: cells.count(each.row.narrow_mlps)),
            Column("Attentions", "skipped", lambda each: cells.few(len(each.row.architecture.without_attention))),
            _cost("parameters"),
            Column("INT8", "", lambda each: TableCell("yes", 1) if each.int8 else TableCell("no", None)),
            _cost("bytes"),
            Column("KV cache", "per token", lambda each: cells.size(each.row.cache_bytes_per_token)),
            _cost("kv_cache_bytes"),
            Column("Ratio", "dense : this", lambda each: cells.ratio(each.row.ratio)),
            Column("Accuracy", "search part", lambda each: _percent(each.row.search_accuracy)),
            Column(
                "Accuracy", "report part (95 %)", lambda each: _accuracy(each.row.report_accuracy, each.row.interval)
            ),
            Column("Change by INT8", COMPARED, lambda each: _compared(each.row.versus_original)),
            Column("Against dense", COMPARED, lambda each: _compared(each.row.versus_dense)),
            Column("Against base", COMPARED, lambda each: _compared(each.row.versus_base)),
            Column("Against random", COMPARED, lambda each: _compared(each.row.versus_random)),
            *(column for task in tasks if apart for column in _of_task(task, _task(task))),
            *_of_task("Mean over tasks", lambda row: row.macro),
            _cost("prefill_seconds"),
            _cost("decode_seconds"),
            Column("Prefill", TOKENS, lambda each: cells.speed(each.row.speed, "prefill")),
            Column("Decode", TOKENS, lambda each: cells.speed(each.row.speed, "decode")),
            Column("Measured", "by, on", lambda each: _engine(each.row.speed)),
        ),
        listed_networks(content),
    )


def with_values(columns: Columns, networks: Sequence[ListedNetwork]) -> Columns:
    """The columns that hold a number for at least one of the networks."""
    return tuple(column for column in columns if any(column.cell(each).value is not None for each in networks))


def _cost(objective: Objective) -> Column:
    cost = COSTS[objective]
    return Column(cost.title, cost.unit, lambda each: cells.cost(each.row, objective))


def _task(task: str) -> Callable[[NetworkRow], TaskRow | None]:
    return lambda row: row.by_task.get(task)


def _of_task(title: str, of: Callable[[NetworkRow], TaskRow | None]) -> tuple[Column, ...]:
    """The columns of one task, or of the mean over all tasks."""

    def against(row: NetworkRow, name: str) -> TableCell:
        task = of(row)
        return EMPTY if task is None else _compared(getattr(task, name))

    def accuracy(row: NetworkRow) -> TableCell:
        task = of(row)
        return EMPTY if task is None else _accuracy(task.accuracy, task.interval)

    return (
        Column(title, "report part (95 %)", lambda each: accuracy(each.row)),
        Column(f"{title}, against dense", COMPARED, lambda each: against(each.row, "versus_dense")),
        Column(f"{title}, against base", COMPARED, lambda each: against(each.row, "versus_base")),
    )


def _percent(share: float | None) -> TableCell:
    return TableCell(wording.percent(share), share)


def _accuracy(accuracy: float | None, interval: tuple[float, float] | None) -> TableCell:
    if accuracy is None:
        return EMPTY
    return TableCell(f"{wording.percent(accuracy)} ({wording.interval(interval)})", accuracy)


def _compared(comparison: Comparison | None) -> TableCell:
    """The difference with its interval, the p-value and the corrected one."""
    if comparison is None:
        return EMPTY
    p_values = f"{wording.p_value(comparison.p_value)}, {wording.p_value(comparison.corrected)}"
    return TableCell(f"{cells.difference(comparison).shown}; {p_values}", comparison.difference)


def _engine(speed: SpeedRow | None) -> TableCell:
    return EMPTY if speed is None else TableCell(f"{speed.engine}, {speed.device}", 0)
