"""The files that a finished search leaves: the page, the figure, and the front as data."""

from collections.abc import Sequence
from pathlib import Path

from services.coordinator.history import History
from services.coordinator.plan import SearchPlan
from services.reporting.assemble import assemble
from services.reporting.charts.front_figure import draw_figure
from services.reporting.page import render_page
from services.reporting.report_data import ReportContent
from shared.architecture import Architecture
from shared.files import write_atomically, writing


def write_report(plan: SearchPlan, history: History, front: Sequence[Architecture], directory: Path) -> ReportContent:
    """Write `report.html`, `front.svg`, `front.json` and one file for each architecture of the front into a directory,
    as `N1.json` and, where it was measured in INT8 again, `N1-int8.json`."""
    content = assemble(plan, history, front)
    write_atomically(directory / "front.svg", draw_figure(content))
    tables = content.model_dump_json(indent=1, include={"front", "int8", "random", "dense", "base"})
    write_atomically(directory / "front.json", tables + "\n")
    files = {directory / "front" / f"{row.name.replace(' ', '-')}.json": row for row in (*content.front, *content.int8)}
    for path, row in files.items():
        write_atomically(path, row.architecture.model_dump_json() + "\n")
    for former in (directory / "front").glob("N[0-9]*.json"):  # of a larger front, from before the budget was raised
        if former not in files:
            with writing(former):
                former.unlink()
    write_atomically(directory / "report.html", render_page(content))
    return content
