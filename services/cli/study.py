"""`nasfarm study`: from a study file to a report, measured on this machine or by a farm."""

import logging
from contextlib import nullcontext
from pathlib import Path

from services.application.study.progress import study_progress
from services.application.study.study_directory import StudyDirectory
from services.application.supernet_store import SupernetStore
from services.cli.console import console
from services.cli.interruption import interruptible
from services.cli.preparation_display import PreparationDisplay
from services.cli.search_log import SearchLog
from services.cli.study_display import StudyDisplay
from services.coordinator.dispatch import SearchStoppedError
from shared.broker.address import BrokerAddress
from shared.environment import Environment
from shared.events import Events
from shared.settings import metrics_by_task, read_study_file
from shared.telemetry.logs import bound, configure_logs, fields

log = logging.getLogger(__name__)


def study(study_file: Path, runs: Path, store: SupernetStore, address: BrokerAddress | None) -> None:
    """Run a study, or continue it. On a farm it is a service, as a search is."""
    from services.application.quiet_libraries import quiet_libraries
    from services.application.study.run_study import run_study

    quiet_libraries()
    environment = Environment.read()
    as_service = address is not None and not console.is_terminal
    if as_service:
        configure_logs(environment.log_format)
    settings = read_study_file(study_file)
    display = StudyDisplay(metrics_by_task(settings.tasks))
    leaving = nullcontext() if address is None else interruptible()  # at once, where nobody else is waited for
    with leaving, bound(search=settings.name), PreparationDisplay() as preparation, display:
        events = Events(preparation, SearchLog() if as_service else display)
        try:
            run_study(settings, StudyDirectory(runs / settings.name), store, address, environment, events)
        except SearchStoppedError as stopped:
            if as_service:
                log.info("study stopped", extra=fields(reason=stopped))
            else:
                console.print(f"Stopped        {stopped}; the same command resumes it from what is stored")


def report(path: Path, output: Path) -> None:
    """Write the report of a study again from what is stored, into a directory."""
    from services.application.study.report import write_study_report

    directory = StudyDirectory(path)
    display = StudyDisplay(metrics_by_task(directory.settings().tasks))
    with PreparationDisplay() as preparation, display:
        write_study_report(directory, output, Events(preparation, display))


def status(path: Path) -> None:
    """Show how far a study has got."""
    directory = StudyDirectory(path)
    settings, progress = directory.settings(), study_progress(directory)
    console.print(f"Study          {settings.name}, {settings.model}")
    console.print(f"Searches       {progress.finished} of {progress.searches} finished")
    measured = f"{progress.measured} of {progress.measurements} measured" if progress.measurements else "not begun"
    console.print(f"Report items   {measured}")
    console.print(f"Report         {directory.report if progress.reported else 'not written yet'}")
