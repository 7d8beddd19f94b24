"""The front as tables for the terminal: size and accuracy, comparisons, and below them, if there are any, INT8 and
speed; then the findings in words."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from services.reporting import wording
from services.reporting.finding import findings
from services.reporting.listed_networks import ListedNetwork, listed_networks
from services.reporting.report_data import Comparison, NetworkRow, ReportContent
from services.reporting.tables import cells
from services.reporting.tables.cells import EMPTY, TableCell
from services.reporting.tables.columns import Column, Columns, with_values
from shared.text import printable


def _percentage(share: float | None) -> TableCell:
    return TableCell(wording.percentage(share), share)


def _reported(row: NetworkRow) -> TableCell:
    if row.report_accuracy is None:
        return EMPTY
    shown = f"{wording.percentage(row.report_accuracy)} ({wording.interval(row.interval)})"
    return TableCell(shown, row.report_accuracy)


def _p_values(comparison: Comparison | None) -> TableCell:
    if comparison is None:
        return EMPTY
    shown = f"{wording.p_value(comparison.p_value)} ({wording.p_value(comparison.corrected)})"
    return TableCell(shown, comparison.p_value)


POINTS, P_VALUES, TOKENS = "points (95 %)", "p (corrected)", "tokens/s"
ACCURACY: Columns = (
    Column("Layers", "", lambda each: cells.count(each.row.architecture.depth)),
    Column("Narrow", "MLPs", lambda each: cells.count(each.row.narrow_mlps)),
    Column("Skipped", "attentions", lambda each: cells.few(len(each.row.architecture.without_attention))),
    Column("Para-", "meters", lambda each: cells.cost(each.row, "parameters")),
    Column("Weights", "", lambda each: cells.cost(each.row, "bytes")),
    Column("Ratio", "", lambda each: cells.ratio(each.row.ratio)),
    Column("Search", "%", lambda each: _percentage(each.row.search_accuracy)),
    Column("Report %", "(95 %)", lambda each: _reported(each.row)),
    Column("vs random", POINTS, lambda each: cells.difference(each.row.versus_random)),
)
COMPARISONS: Columns = (
    Column("vs dense", POINTS, lambda each: cells.difference(each.row.versus_dense)),
    Column("", P_VALUES, lambda each: _p_values(each.row.versus_dense)),
    Column("vs base", POINTS, lambda each: cells.difference(each.row.versus_base)),
    Column("", P_VALUES, lambda each: _p_values(each.row.versus_base)),
)
SPEED: Columns = (
    Column("INT8", "", lambda each: TableCell("yes", 1) if each.int8 else EMPTY),
    Column("Change by INT8", POINTS, lambda each: cells.difference(each.row.versus_original)),
    Column("KV cache", "batch", lambda each: cells.cost(each.row, "kv_cache_bytes")),
    Column("Prefill", "time", lambda each: cells.cost(each.row, "prefill_seconds")),
    Column("Decode", "step", lambda each: cells.cost(each.row, "decode_seconds")),
    Column("Prefill, measured", TOKENS, lambda each: cells.speed(each.row.speed, "prefill")),
    Column("Decode, measured", TOKENS, lambda each: cells.speed(each.row.speed, "decode")),
)


def front_table(content: ReportContent) -> Group:
    """The front with its INT8 twins, the dense and the base network below it; legible from 100 columns on."""
    networks = listed_networks(content)
    compared = tuple(each for each in networks if each.row.versus_dense or each.row.versus_base)
    parts: list[Table | Text] = [_table(networks, ACCURACY)]
    if compared:
        parts += [Text(), _table(compared, COMPARISONS)]
    if with_values(SPEED, networks):
        parts += [Text(), _table(networks, SPEED)]
    if content.serving is not None:
        parts.append(Text(printable(f"Speed: {content.serving}")))
    devices = {each.row.speed.device for each in networks if each.row.speed}
    if devices:
        parts.append(Text(printable(f"Tokens per second measured on {', '.join(sorted(devices))}")))
    parts += [Text(f"\n{finding}") for finding in findings(content)]
    return Group(*parts)


def _table(networks: Sequence[ListedNetwork], columns: Columns) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("Name", no_wrap=True)
    filled = with_values(columns, networks)
    for column in filled:
        title = f"{column.title}\n{column.unit}" if column.unit else column.title
        table.add_column(title, justify="right", no_wrap=True)
    for each in networks:
        if each.key == "dense":
            table.add_section()
        # Text, not str: a name is no markup.
        table.add_row(Text(each.row.name), *(column.cell(each).shown for column in filled))
    return table
