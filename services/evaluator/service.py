"""The evaluator as a service: a process that answers the requests for one super-network until it is told to stop."""

import logging
import os
import platform
import signal
import time
from contextlib import closing
from pathlib import Path

from services.evaluator.evaluator import Evaluator
from services.evaluator.worker import Answering, Worker
from shared.broker import requests_queue
from shared.broker.address import BrokerAddress
from shared.broker.rabbitmq import RabbitBroker
from shared.environment import Environment
from shared.errors import first_line
from shared.manifest import SupernetManifest
from shared.messages import CheckpointRef, EvaluationRequest, EvaluationResult, Failure, Measurement
from shared.telemetry.logs import fields
from shared.telemetry.metrics import EvaluatorMetrics
from shared.telemetry.server import TelemetryServer

log = logging.getLogger(__name__)

CONNECT_SECONDS = 30
"""How long the broker may take to be there at the start. Later it may be away for as long as it likes."""
PUMP_SECONDS = 60
"""The connection's thread says every second that it lives; after so long a silence only a restart helps."""


def run_evaluator(address: BrokerAddress, supernet: Path, environment: Environment) -> None:
    """Answer the requests for the super-network in a directory, until SIGTERM or SIGINT.

    The first signal lets the evaluation in work be finished and answered; at the second the process leaves at once, and
    the broker gives the request to another evaluator.

    Raises UserError if the directory holds no whole super-network, or if the broker isn't reached or refuses.
    """
    digest = SupernetManifest.read(supernet).digest
    evaluator = Evaluator(environment)
    evaluator.hold(CheckpointRef(location=str(supernet), digest=digest))
    with closing(RabbitBroker(address, f"nasfarm evaluator {platform.node()} {os.getpid()}")) as broker:
        metrics = EvaluatorMetrics(broker)
        watched = Watched(evaluator, metrics)
        worker = Worker(broker, requests_queue(digest), watched)
        stop_at_signals(worker, watched)
        live = {"connection": lambda: _silence(broker)}
        ready = {"broker": lambda: None if broker.connected else "not connected", "work": watched.refusal}
        host, port = environment.telemetry_host, environment.telemetry_port
        with TelemetryServer(metrics.registry, live, ready, host=host, port=port) as telemetry:
            broker.connect(CONNECT_SECONDS)
            log.info("evaluator ready", extra=fields(broker=address, supernet=digest, telemetry_port=telemetry.port))
            worker.start()
            worker.join()  # signals are handled meanwhile: Python does that on this thread, which never computes
        worker.check()
    log.info("evaluator stopped")


class Watched:
    """An evaluator that tells metrics and log what it does, and for which a bug is a failure of one request."""

    def __init__(self, evaluator: Answering, metrics: EvaluatorMetrics) -> None:
        self._evaluator = evaluator
        self._metrics = metrics
        self._draining = False

    def evaluate(self, request: EvaluationRequest) -> EvaluationResult:
        """The evaluator's answer; an exception is logged with its traceback and answered as `crashed`."""
        began = time.perf_counter()
        self._metrics.taken(None)
        if not self._draining:
            self._metrics.is_in("computing")
        try:
            result = self._evaluator.evaluate(request)
        except Exception as error:  # a bug, which other requests may not meet
            log.exception("evaluation crashed")
            reason = f"{type(error).__name__}: {first_line(error)}"
            failure = Failure(kind="crashed", reason=reason, retry_may_help=True)
            result = EvaluationResult(identity=request.identity, search=request.search, outcome=failure)
        seconds = time.perf_counter() - began
        self._metrics.answered(result.outcome, seconds)
        if not self._draining:
            self._metrics.is_in("idle")
        outcome = "measurement" if isinstance(result.outcome, Measurement) else result.outcome.kind
        log.info("evaluation finished", extra=fields(outcome=outcome, seconds=seconds))
        return result

    def drain(self) -> None:
        """What is in work is the last."""
        self._draining = True
        self._metrics.is_in("draining")

    def refusal(self) -> str | None:
        """Why no more requests are taken, if that is so."""
        return "told to stop" if self._draining else None


def _silence(broker: RabbitBroker) -> str | None:
    silent = time.monotonic() - broker.pumped_at
    return f"its thread has been silent for {silent:.0f} s" if silent > PUMP_SECONDS else None


def stop_at_signals(worker: Worker, watched: Watched) -> None:
    """Have SIGTERM and SIGINT stop a worker: the first lets it finish, the second ends the process."""

    def stop(number: int, _frame: object) -> None:
        if worker.stop.is_set():
            os._exit(128 + number)
        worker.stop.set()
        watched.drain()
        log.info("told to stop: the evaluation in work is finished first, another signal leaves at once")

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, stop)
