"""`nasfarm search --broker`: the coordinator of a farm. It needs no torch where the super-network is made already."""

import logging
from contextlib import closing
from pathlib import Path

from services.application.broker_connection import connected_broker
from services.application.example import example_search_file
from services.application.packages import INSTALL, missing_package
from services.application.pipeline import open_search, search_to_the_end
from services.application.run_directory import RunDirectory
from services.application.supernet_store import Supernet, SupernetStore, find_supernet
from services.cli.console import console
from services.cli.interruption import interruptible
from services.cli.search_summary import print_space
from services.cli.terminal import display_of
from services.coordinator.announcing import announcing
from services.coordinator.dispatch import Dispatcher, SearchStoppedError
from services.coordinator.evaluators import AnnouncedEvaluators
from services.coordinator.plan import SearchPlan
from shared.broker import Broker
from shared.broker.address import BrokerAddress
from shared.digest import digest_file
from shared.environment import Environment
from shared.errors import UserError
from shared.manifest import base_location
from shared.messages import CheckpointRef
from shared.policy import RESULTS_PREFETCH
from shared.settings import SearchSettings, read_search_file
from shared.telemetry.connection import live_checks, ready_checks
from shared.telemetry.logs import bound, configure_logs, fields
from shared.telemetry.metrics import CoordinatorMetrics
from shared.telemetry.server import TelemetryServer

log = logging.getLogger(__name__)


def search_on_farm(search_file: Path | None, runs: Path, store: SupernetStore, address: BrokerAddress) -> None:
    """From a search file to a report, measured by the evaluators of a farm. Until it ends it is a service: it serves
    metrics and health, and where it has no terminal it logs events instead of showing progress."""
    environment = Environment.read()
    if not console.is_terminal:
        configure_logs(environment.log_format)
    settings = read_search_file(example_search_file(environment) if search_file is None else search_file)
    if (named := settings.files_of_tasks) is not None:
        raise UserError(
            f"{named}: evaluators of a farm read no tasks from files, which may hold code; name tasks of lm-eval, or "
            "search without --broker"
        )
    run = RunDirectory(runs / settings.name)
    with (
        interruptible(),
        bound(search=settings.name),
        run.claimed(),
        # Before all else, so that nothing is found wrong with the broker after an hour of fine-tuning.
        connected_broker(address, f"search {settings.name}", RESULTS_PREFETCH) as broker,
    ):
        supernet = find_supernet(settings, run, store, environment) or _train(settings, run, store, environment)
        try:
            _coordinate(settings, run, supernet, address, broker, environment)
        except SearchStoppedError as stopped:
            if console.is_terminal:
                console.print(f"Stopped        {stopped}; the same command goes on from what is stored")
            else:
                log.info("search stopped", extra=fields(reason=stopped))


def _train(settings: SearchSettings, run: RunDirectory, store: SupernetStore, environment: Environment) -> Supernet:
    try:
        from services.application.prepared_search import train_before_search
    except ModuleNotFoundError as error:
        raise UserError(
            f"{store.path}: there is no super-network of this search yet, and {missing_package(error)} isn't installed "
            f"here to make one; run `nasfarm train` where it is ({INSTALL}), with --supernets on the same place or a "
            "copy of it"
        ) from error
    return train_before_search(settings, run, store, environment)


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
) -> None:
    _check_config(supernet)
    manifest = supernet.manifest
    base = CheckpointRef(location=base_location(settings.model), digest=manifest.base_digest)
    # Where nobody has said what suits the evaluators, what every machine computes in.
    plan, history = open_search(settings, run, supernet, base, manifest.dtype or "float32")
    with closing(history):
        run.record(settings)  # only now: a run that belongs to another search stays as it is
        run.link(supernet.directory)
        history.note("origins", {"model": manifest.base, "training data": manifest.data["origin"]})
        metrics, digest = CoordinatorMetrics(broker), plan.supernet.digest
        evaluators = AnnouncedEvaluators(broker, digest, lambda others: _tell_that_nobody_measures(digest, others))
        farm = Dispatcher(settings.name, digest, broker, history, metrics, evaluators)
        with (
            _telemetry(metrics, broker, environment) as telemetry,
            announcing(broker, farm.progress),
            display_of(plan) as display,
        ):
            _tell(plan, address, telemetry.port)
            search_to_the_end(plan, history, farm, run, display)


def _telemetry(metrics: CoordinatorMetrics, broker: Broker, environment: Environment) -> TelemetryServer:
    """The server of metrics and health: at the port that is asked for; without one at the usual or, where an evaluator
    of this machine has that, any other."""

    def serve(port: int) -> TelemetryServer:
        live, ready = live_checks(broker), ready_checks(broker)
        return TelemetryServer(metrics.registry, live, ready, host=environment.telemetry_host, port=port)

    try:
        return serve(environment.telemetry_port)
    except UserError:
        if "telemetry_port" in environment.model_fields_set:
            raise
        return serve(0)


def _tell(plan: SearchPlan, address: BrokerAddress, port: int) -> None:
    """Say what is going to be searched, and where."""
    search, digest = plan.settings.search, plan.supernet.digest
    if not console.is_terminal:
        log.info(
            "search ready",
            extra=fields(
                broker=address,
                supernet=digest,
                base=plan.base.location,
                dtype=plan.dtype,
                networks=plan.space.networks,
                evaluations=search.evaluations,
                telemetry_port=port,
            ),
        )
        return
    console.print(f"Model          {plan.base.location}")
    print_space(plan.space, plan.dtype)
    console.print(
        f"Search         {search.strategy}, {search.evaluations} networks in generations of {search.population}"
    )
    console.print(f"Farm           {address}, evaluators of super-network {digest}")
    console.print(f"Telemetry      port {port}: /metrics, /healthz, /readyz")


def _tell_that_nobody_measures(supernet: str, others: int) -> None:
    """Say what the search waits for. `others`: evaluators of another release."""
    if not console.is_terminal:
        log.warning("no evaluator is there", extra=fields(supernet=supernet, of_another_release=others))
    elif others:
        console.print(
            f"Waiting        the evaluators of super-network {supernet} ({others}) are of another release; start one "
            "of this one"
        )
    else:
        console.print(f"Waiting        no evaluator of super-network {supernet} is there; start one")
