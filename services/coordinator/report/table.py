"""The front as a table for the terminal."""

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from services.coordinator.report import wording
from services.coordinator.report.content import Comparison, NetworkRow, ReportContent

COLUMNS = (
    "Layers",
    "Narrow\nMLPs",
    "Para-\nmeters",
    "Bytes",
    "Ratio",
    "Search\n%",
    "Report %\n(95 %)",
    "vs dense\npoints (p)",
    "vs base\npoints (p)",
)


def front_table(content: ReportContent) -> Table:
    """The front with the dense and the base network below it; legible from 100 columns on."""
    table = Table(box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("Name", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for row in content.front:
        _add(table, row)
    table.add_section()
    _add(table, content.dense)
    _add(table, content.base)
    return table


def _add(table: Table, row: NetworkRow) -> None:
    table.add_row(
        # Text, not str: a name is no markup.
        Text(row.name),
        str(row.architecture.depth),
        str(row.narrow_mlps),
        wording.parameters(row.parameters),
        wording.size(row.bytes),
        f"{row.ratio:.2f}",
        wording.percentage(row.search_accuracy),
        f"{wording.percentage(row.report_accuracy)} ({wording.interval(row.interval)})",
        _compared(row.versus_dense),
        _compared(row.versus_base),
    )


def _compared(comparison: Comparison | None) -> str:
    if comparison is None:
        return wording.NOT_MEASURED
    return f"{wording.points(comparison.difference)} ({wording.p_value(comparison.p_value)})"
