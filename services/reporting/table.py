"""The front as tables for the terminal: size and accuracy, comparisons, and below them, if there are any, INT8 and
speed; then the result in words."""

from collections.abc import Callable

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from services.reporting import wording
from services.reporting.finding import results
from services.reporting.networks import Listed, listed
from services.reporting.objectives import MEASURES
from services.reporting.report_data import Comparison, ReportContent
from shared.settings import Objective
from shared.text import printable

Columns = tuple[tuple[str, Callable[[Listed], str]], ...]
"""Titles with what fills the column for a network."""


def _time(each: Listed, objective: Objective) -> str:
    measure = MEASURES[objective]
    value = measure.of(each.row)
    return wording.NOT_MEASURED if value is None else measure.show(value)


def _rate(repeats: tuple[float, float, float] | None) -> str:
    return wording.NOT_MEASURED if repeats is None else wording.rate(repeats)


def _reported(each: Listed) -> str:
    if each.row.report_accuracy is None:
        return wording.NOT_MEASURED
    return f"{wording.percentage(each.row.report_accuracy)} ({wording.interval(each.row.interval)})"


def _difference(comparison: Comparison | None) -> str:
    if comparison is None:
        return wording.NOT_MEASURED
    return f"{wording.points(comparison.difference)} ({wording.points_interval(comparison.interval)})"


def _p_values(comparison: Comparison | None) -> str:
    if comparison is None:
        return wording.NOT_MEASURED
    return f"{wording.p_value(comparison.p_value)} ({wording.p_value(comparison.corrected)})"


ACCURACY: Columns = (
    ("Layers", lambda each: str(each.row.architecture.depth)),
    ("Narrow\nMLPs", lambda each: str(each.row.narrow_mlps)),
    ("Para-\nmeters", lambda each: wording.parameters(each.row.parameters)),
    ("Weights", lambda each: wording.size(each.row.bytes)),
    ("Ratio", lambda each: f"{each.row.ratio:.2f}"),
    ("Search\n%", lambda each: wording.percentage(each.row.search_accuracy)),
    ("Report %\n(95 %)", _reported),
    ("vs random\npoints (95 %)", lambda each: _difference(each.row.versus_random)),
)
COMPARISONS: Columns = (
    ("vs dense\npoints (95 %)", lambda each: _difference(each.row.versus_dense)),
    ("\np (corrected)", lambda each: _p_values(each.row.versus_dense)),
    ("vs base\npoints (95 %)", lambda each: _difference(each.row.versus_base)),
    ("\np (corrected)", lambda each: _p_values(each.row.versus_base)),
)
SPEED: Columns = (
    ("INT8", lambda each: "yes" if each.int8 else wording.NOT_MEASURED),
    ("Change by INT8\npoints (95 %)", lambda each: _difference(each.row.versus_original)),
    ("Prefill\ntime", lambda each: _time(each, "prefill_seconds")),
    ("Decode\nstep", lambda each: _time(each, "decode_seconds")),
    ("Prefill, measured\ntokens/s", lambda each: _rate(each.row.speed.prefill if each.row.speed else None)),
    ("Decode, measured\ntokens/s", lambda each: _rate(each.row.speed.decode if each.row.speed else None)),
)


def front_table(content: ReportContent) -> Group:
    """The front with its INT8 twins, the dense and the base network below it; legible from 100 columns on."""
    networks = listed(content)
    compared = tuple(each for each in networks if each.row.versus_dense or each.row.versus_base)
    parts: list[Table | Text] = [_table(networks, ACCURACY)]
    if compared:
        parts += [Text(), _table(compared, COMPARISONS)]
    if _filled(networks, SPEED):
        parts += [Text(), _table(networks, SPEED)]
    if content.serving is not None:
        parts.append(Text(printable(f"Speed: {content.serving}")))
    measured = {each.row.speed.device for each in networks if each.row.speed}
    if measured:
        parts.append(Text(printable(f"Tokens a second measured on {', '.join(sorted(measured))}")))
    parts += [Text(f"\n{result}") for result in results(content)]
    return Group(*parts)


def _filled(networks: tuple[Listed, ...], columns: Columns) -> Columns:
    """The columns that are not dashes only."""
    return tuple(
        (title, shown) for title, shown in columns if any(shown(each) != wording.NOT_MEASURED for each in networks)
    )


def _table(networks: tuple[Listed, ...], columns: Columns) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("Name", no_wrap=True)
    filled = _filled(networks, columns)
    for title, _ in filled:
        table.add_column(title, justify="right", no_wrap=True)
    for each in networks:
        if each.key == "dense":
            table.add_section()
        # Text, not str: a name is no markup.
        table.add_row(Text(each.row.name), *(shown(each) for _, shown in filled))
    return table
