"""The evaluator as a service: a process that answers the requests for one super-network until it is stopped."""

import logging
import os
import queue
import signal
from contextlib import closing
from enum import Enum, auto

from services.evaluator.lease import said_of
from services.evaluator.locations import AllowedLocations
from services.evaluator.status import CrashGuard, EvaluatorStatus
from services.evaluator.watchdog import Watchdog
from services.evaluator.worker import RequestEvaluator, Worker, worker_name
from shared.backoff import Backoff
from shared.broker import Broker, requests_queue
from shared.broker.address import BrokerAddress
from shared.broker.rabbitmq import RabbitBroker
from shared.environment import Environment
from shared.failure_policy import EVALUATOR_PAUSE, RESTART_CODE
from shared.manifest import SupernetManifest
from shared.messages import CheckpointRef
from shared.periodic_announcer import PeriodicAnnouncer
from shared.supernet.source import fetch_checkpoint
from shared.telemetry.connection import live_checks, ready_checks
from shared.telemetry.logs import fields
from shared.telemetry.metrics import EvaluatorMetrics
from shared.telemetry.server import Check, TelemetryServer

log = logging.getLogger(__name__)


class ServiceEvent(Enum):
    """What the main thread waits for."""

    TOLD_TO_STOP = auto()
    WORKER_ENDED = auto()
    TIMED_OUT = auto()
    """The evaluation in flight took too long; its request is answered."""
    BROKEN = auto()
    """Evaluations crashed one after the other; another process may do better."""


ServiceEvents = queue.SimpleQueue[
    ServiceEvent
]  # the only queue that a signal's handler may put into, whatever it interrupts


def run_evaluator(address: BrokerAddress, supernet: str, environment: Environment) -> None:
    """Measure networks of the super-network in a directory or at a URL, and of its base model; see `serve_supernet`.
    Other checkpoints only where `environment.locations` allows it.

    Raises UserError if there is no whole super-network, or if the broker isn't reached or refuses.
    """
    from services.evaluator.evaluator import Evaluator
    from shared.supernet.device import compute_device, device_name

    directory = fetch_checkpoint(supernet, None, environment.cache)
    manifest = SupernetManifest.read(directory)
    digest = manifest.digest
    known = {digest: str(directory), manifest.base_digest: manifest.base}
    locations = AllowedLocations((supernet, manifest.base, *environment.locations), known)
    evaluator = Evaluator(environment, task_files=False, locations=locations)
    evaluator.hold(CheckpointRef(location=str(directory), digest=digest))
    serve_supernet(address, digest, device_name(compute_device()), evaluator, environment)


def serve_supernet(
    address: BrokerAddress, digest: str, device: str, evaluator: RequestEvaluator, environment: Environment
) -> None:
    """Have the requests for a super-network answered by `evaluator`, until SIGTERM or SIGINT.

    The first signal leaves the evaluation in flight `environment.drain_limit` seconds to be finished and answered, then
    its request is requeued. At the second signal the process ends at once, and the broker delivers the request to
    another evaluator. An evaluation that takes longer than `environment.evaluation_limit` is answered as timed out, and
    the process ends with RESTART_CODE; as it does when one evaluation after the other crashes.

    Args:
        address: the broker's.
        digest: the super-network's.
        device: what `evaluator` computes on, for people.
        evaluator: answers the requests, on a thread of its own; a bug in it is the failure of one request.
        environment: limits, and where metrics and health are served.

    Raises:
        UserError: the broker isn't reached or refuses; the address of the metrics is in use.
    """
    with closing(RabbitBroker(address, f"nasfarm evaluator {worker_name()}")) as broker:
        metrics = EvaluatorMetrics(broker)
        status = EvaluatorStatus(broker, metrics, digest, device)
        live: dict[str, Check] = {**live_checks(broker), "evaluation": status.hung}
        ready: dict[str, Check] = {**ready_checks(broker), "work": status.refusal}
        host, port = environment.telemetry_host, environment.telemetry_port
        with TelemetryServer(metrics.registry, live, ready, host=host, port=port) as telemetry:
            broker.connect()
            log.info("evaluator ready", extra=fields(broker=address, supernet=digest, telemetry_port=telemetry.port))
            serve(broker, requests_queue(digest), evaluator, status, environment)
    log.info("evaluator stopped")


def serve(
    broker: Broker, requests: str, evaluator: RequestEvaluator, status: EvaluatorStatus, environment: Environment
) -> None:
    """Serve until one of the `ServiceEvent`s happens; the forced ones end the process here."""
    events = ServiceEvents()
    worker = Worker(
        broker,
        requests,
        CrashGuard(evaluator),
        status,
        Backoff(EVALUATOR_PAUSE),
        lambda: events.put(ServiceEvent.WORKER_ENDED),
    )
    watchdog = Watchdog(
        broker, worker.lease_slot, environment.evaluation_limit, lambda: events.put(ServiceEvent.TIMED_OUT)
    )
    announcer = PeriodicAnnouncer(broker, status.announcement)
    status.changed, status.broken = announcer.changed, lambda: events.put(ServiceEvent.BROKEN)
    stop_at_signals(events)
    for thread in (announcer, watchdog, worker):
        thread.start()
    ended = events.get()  # signals are handled meanwhile: Python does that on this thread, which never computes
    if ended is ServiceEvent.TOLD_TO_STOP:
        log.info("told to stop: the evaluation in flight is finished first, another signal ends the process at once")
        worker.stop.set()
        status.drain()
        try:
            ended = events.get(timeout=environment.drain_limit)
        except queue.Empty:
            requeue(broker, worker)
    status.stop()
    announcer.stop()
    if ended is ServiceEvent.WORKER_ENDED:
        worker.check()
        return
    broker.close()  # what was sent to the broker reaches it before
    log.info("evaluator stopped, while its thread was computing")
    os._exit(
        RESTART_CODE if ended in (ServiceEvent.TIMED_OUT, ServiceEvent.BROKEN) else 0
    )  # an evaluation can't be stopped


def requeue(broker: Broker, worker: Worker) -> None:
    """Requeue the message in flight, for another evaluator. If it is being answered, which only waits for the broker,
    the broker redelivers it by itself."""
    lease = worker.lease_slot.claim()
    if lease is None:
        log.warning("told to stop: the answer can't be delivered, the request will be redelivered")
        return
    delivery = lease.delivery
    log.warning(
        "told to stop: the request in flight is requeued",
        extra=fields(**said_of(lease.requests), attempt=delivery.attempt),
    )
    broker.stop_receiving(delivery.queue)  # or it would be delivered to us again
    delivery.requeue()


def stop_at_signals(events: ServiceEvents) -> None:
    """Have SIGTERM and SIGINT stop the service: the first tells it to, the second ends the process."""
    told = False

    def stop(number: int, _frame: object) -> None:
        nonlocal told
        if told:
            os._exit(128 + number)
        told = True
        events.put(ServiceEvent.TOLD_TO_STOP)

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, stop)
