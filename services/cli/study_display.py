"""A study as its user sees it: what it is going to cost, its searches, the making and measuring of its networks."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from services.application.search_events import ReportWritten
from services.application.study.events import (
    CandidatesMeasured,
    StudyCost,
    StudyCostEstimated,
    StudyMeasured,
    StudyReportWritten,
    StudySearchBegan,
)
from services.cli.console import console, duration
from services.cli.search_display import SearchDisplay
from services.reporting.wording import size
from shared.events import Event


class StudyDisplay(SearchDisplay):
    """Subscriber that shows a study, and each of its searches."""

    def __call__(self, event: Event) -> None:
        match event:
            case StudyCostEstimated():
                _print_cost(event.cost)
            case StudySearchBegan():
                done = ", finished before" if event.finished else ""
                console.print(
                    f"Search {event.number}/{event.searches:<5}super-network {event.supernet}, chosen on "
                    f"{event.chosen_on}{done}"
                )
            case ReportWritten():  # of one of many searches
                self.shown.close()
                console.print(f"Report         {event.run.path / 'report.html'}")
            case CandidatesMeasured():
                self.shown.close()
                failed = f"; {event.failed:,} failed, without which the study does" if event.failed else ""
                console.print(f"Candidates     {event.measured:,} of the sizes to compare at, on search items{failed}")
            case StudyMeasured():
                self.shown.close()
                console.print(f"Measured       {_measured(event)}")
            case StudyReportWritten():
                _print_report(event)
            case _:
                super().__call__(event)


def _print_cost(cost: StudyCost) -> None:
    """What is left to be done; times can only be guessed before."""
    table = Table("Stage", "What", "Tokens", "About", box=SIMPLE_HEAD, show_edge=False)
    for line in cost.lines:
        table.add_row(line.stage, line.number, f"{line.tokens:,}", duration(line.seconds))
    table.add_row("Altogether", "", f"{cost.tokens:,}", duration(cost.seconds))
    console.print(table)
    if cost.disk:
        console.print(f"Disk           up to {size(cost.disk)} for checkpoints")


def _measured(event: StudyMeasured) -> str:
    words = f"{event.measured:,} measurements on report items"
    if event.taken_over:
        words += f", {event.taken_over:,} of them by the searches"
    return f"{words}; {event.failed:,} failed, which the same command tries again" if event.failed else words


def _print_report(event: StudyReportWritten) -> None:
    """What the study says of the paper's claims, and where all of it is."""
    console.print(event.content.summary)
    console.print(f"Report         {event.directory / 'report.html'}")
    console.print(f"Tables         {event.directory / 'tables'}/*.csv, {event.directory / 'study.json'}")
