"""The files that a finished search leaves: the page, the figure, and the front as data."""

from collections.abc import Sequence
from pathlib import Path

from services.coordinator.history import History
from services.coordinator.report.assemble import assemble
from services.coordinator.report.content import ReportContent
from services.coordinator.report.figure import draw_figure
from services.coordinator.report.page import render_page
from services.coordinator.search import SearchPlan
from shared.architecture import Architecture
from shared.files import write_atomically


def write_report(plan: SearchPlan, history: History, front: Sequence[Architecture], run: Path) -> ReportContent:
    """Write `report.html`, `front.svg`, `front.json` and one file for each architecture of the front into the run."""
    content = assemble(plan, history, front)
    write_atomically(run / "front.svg", draw_figure(content))
    write_atomically(run / "front.json", content.model_dump_json(indent=1, include={"front", "dense", "base"}) + "\n")
    for row in content.front:
        write_atomically(run / "front" / f"{row.name}.json", row.architecture.model_dump_json() + "\n")
    names = {row.name for row in content.front}
    for former in (run / "front").glob("N*.json"):  # of a larger front, from before the budget was raised
        if former.stem not in names:
            former.unlink()
    write_atomically(run / "report.html", render_page(content))
    return content
