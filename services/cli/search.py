"""`nasfarm search`, on this machine or as the coordinator of a farm, and `nasfarm train`."""

import logging
from pathlib import Path

from services.application.example import example_search
from services.application.run_directory import RunDirectory
from services.application.supernet_store import SupernetStore
from services.cli.console import console
from services.cli.interruption import interruptible
from services.cli.preparation_display import PreparationDisplay
from services.cli.search_display import SearchDisplay
from services.cli.search_log import SearchLog
from services.coordinator.dispatch import SearchStoppedError
from shared.broker.address import BrokerAddress
from shared.environment import Environment
from shared.events import Events
from shared.settings import SearchSettings, metrics_by_task, read_search_file
from shared.telemetry.logs import bound, configure_logs, fields

log = logging.getLogger(__name__)


def search_here(search_file: Path | None, runs: Path, store: SupernetStore) -> None:
    """The main job: from a search file to a report."""
    from services.application.local_search import search_on_this_machine
    from services.application.quiet_libraries import quiet_libraries

    quiet_libraries()
    environment = Environment.read()
    settings = _settings(search_file, environment)
    with PreparationDisplay() as preparation, SearchDisplay(metrics_by_task(settings.tasks)) as search:
        events = Events(preparation, search)
        search_on_this_machine(settings, RunDirectory(runs / settings.name), store, environment, events)


def search_on_broker(search_file: Path | None, runs: Path, store: SupernetStore, address: BrokerAddress) -> None:
    """From a search file to a report, measured by the evaluators of a farm. Until it ends it is a service: it serves
    metrics and health, and where it has no terminal it logs events instead of showing progress."""
    from services.application.farm_search import search_on_farm

    environment = Environment.read()
    if not console.is_terminal:
        configure_logs(environment.log_format)
    settings = _settings(search_file, environment)
    run = RunDirectory(runs / settings.name)
    with (
        interruptible(),
        bound(search=settings.name),
        PreparationDisplay() as preparation,
        SearchDisplay(metrics_by_task(settings.tasks)) as display,
    ):
        events = Events(preparation, display if console.is_terminal else SearchLog())
        try:
            search_on_farm(settings, run, store, address, environment, events)
        except SearchStoppedError as stopped:
            if console.is_terminal:
                console.print(f"Stopped        {stopped}; the same command resumes it from what is stored")
            else:
                log.info("search stopped", extra=fields(reason=stopped))


def train(search_file: Path, runs: Path, store: SupernetStore) -> None:
    """Make the super-network of a search file, where it isn't there yet. Until that ends it is a service, like a search
    on a farm."""
    from services.application.quiet_libraries import quiet_libraries
    from services.application.supernet_training import train_supernet, training_processes

    quiet_libraries()
    settings, environment = read_search_file(search_file), Environment.read()
    if not console.is_terminal:
        configure_logs(environment.log_format)
    with bound(search=settings.name), training_processes() as processes, PreparationDisplay() as preparation:
        events = Events(preparation) if processes.first else Events()
        train_supernet(settings, RunDirectory(runs / settings.name), store, environment, events, processes)


def _settings(search_file: Path | None, environment: Environment) -> SearchSettings:
    """The search of a file; without one the example's, which is said."""
    if search_file is not None:
        return read_search_file(search_file)
    example = example_search(environment)
    style = "bold yellow" if example.limited else "bold"
    console.print(example.choice[0], style=style)
    for line in example.choice[1:]:
        console.print(line)
    return read_search_file(example.file)
