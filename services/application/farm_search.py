"""A search that the evaluators of a farm measure: its coordinator. It needs no torch where the super-network is made
already."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from services.application.broker_connection import connected_broker
from services.application.packages import INSTALL, missing_package
from services.application.pipeline import open_search, search_to_report
from services.application.run_directory import RunDirectory
from services.application.search_events import FarmSearchReady, NoEvaluatorPresent
from services.application.supernet_choice import find_supernet
from services.application.supernet_store import Supernet, SupernetStore
from services.coordinator.budget import networks_to_measure
from services.coordinator.evaluators import AnnouncedEvaluators
from services.coordinator.search_announcer import announcing
from services.coordinator.search_metrics import SearchMetrics
from services.coordinator.search_status import SearchStatus
from shared.broker import Broker
from shared.broker.address import BrokerAddress
from shared.digest import digest_file
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events
from shared.failure_policy import RESULTS_PREFETCH
from shared.manifest import base_location
from shared.messages import CheckpointRef
from shared.settings import SearchSettings
from shared.telemetry.connection import live_checks, ready_checks
from shared.telemetry.metrics import CoordinatorMetrics
from shared.telemetry.server import telemetry_server


def search_on_farm(
    settings: SearchSettings,
    run: RunDirectory,
    store: SupernetStore,
    address: BrokerAddress,
    environment: Environment,
    events: Events,
) -> None:
    """From the settings to the report, from where the run stands; metrics and health are served meanwhile.

    Raises UserError for what only its user can change, SearchStoppedError where an operator asks the search to stop.
    """
    if (named := settings.files_of_tasks) is not None:
        raise UserError(
            f"{named}: evaluators of a farm read no tasks from files, which may hold code; name tasks of lm-eval, or "
            "search without --broker"
        )
    with (
        run.claimed(),
        # Before all else, so that nothing is found wrong with the broker after an hour of fine-tuning.
        connected_broker(address, f"search {settings.name}", RESULTS_PREFETCH) as broker,
    ):
        supernet = find_supernet(settings, run, store, environment)
        if supernet is None:
            supernet = _make_supernet(settings, run, store, environment, events)
        _coordinate(settings, run, supernet, address, broker, environment, events)


def _make_supernet(
    settings: SearchSettings, run: RunDirectory, store: SupernetStore, environment: Environment, events: Events
) -> Supernet:
    try:
        from services.application.supernet_training import supernet_before_search
    except ModuleNotFoundError as error:
        raise UserError(
            f"{store.path}: there is no super-network of this search yet, and {missing_package(error)} isn't installed "
            f"here to make one; run `nasfarm train` where it is ({INSTALL}), with --supernets on the same place or a "
            "copy of it"
        ) from error
    return supernet_before_search(settings, run, store, environment, events)


def _check_config(supernet: Supernet) -> None:
    """Here sizes are computed from config.json alone, and the weights may be elsewhere."""
    config = supernet.directory / "config.json"
    if config.is_file() and digest_file(config) != supernet.manifest.files.get(config.name):
        raise UserError(f"{config}: differs from the one that supernet.json speaks of; copy the super-network again")


def _coordinate(
    settings: SearchSettings,
    run: RunDirectory,
    supernet: Supernet,
    address: BrokerAddress,
    broker: Broker,
    environment: Environment,
    events: Events,
) -> None:
    _check_config(supernet)
    manifest = supernet.manifest
    base = CheckpointRef(location=base_location(settings.model), digest=manifest.base_digest)
    # Where nothing says what suits the evaluators, what every machine computes in.
    plan, history = open_search(settings, run, supernet, base, manifest.dtype or "float32")
    with closing(history):
        run.record(settings)  # only now: a run that belongs to another search stays as it is
        run.link(supernet.directory)
        history.note("origins", {"model": manifest.base, "training data": manifest.data["origin"]})
        with coordinating(settings.name, plan.supernet.digest, broker, environment, events) as (evaluators, port):
            networks = networks_to_measure(settings.search, plan.space, history.asked())
            events.publish(FarmSearchReady(plan, networks, address, port))
            search_to_report(plan, history, broker, evaluators, run, events)


@contextmanager
def coordinating(
    search: str, supernet: str, broker: Broker, environment: Environment, events: Events
) -> Iterator[tuple[AnnouncedEvaluators, int]]:
    """A farm is used by a search, which is announced, with its metrics and health served meanwhile: the evaluators of
    the super-network, given by its digest, and the port of the metrics."""
    metrics, status = CoordinatorMetrics(broker), SearchStatus(search, supernet)
    events.subscribe(SearchMetrics(metrics))
    events.subscribe(status)
    evaluators = AnnouncedEvaluators(
        broker, supernet, lambda others: events.publish(NoEvaluatorPresent(supernet, others))
    )
    server = telemetry_server(metrics.registry, live_checks(broker), ready_checks(broker), environment)
    with server as telemetry, announcing(broker, status):
        yield evaluators, telemetry.port
