"""The evaluator at work: takes requests from the broker, answers them, one at a time."""

import logging
import os
import platform
import threading
import time
from collections.abc import Callable
from typing import Protocol

from services.evaluator.lease import Lease, LeaseSlot, answer
from services.evaluator.progress_callback import ProgressCallback, ignore_progress
from shared.backoff import Backoff
from shared.broker import Broker, Delivery, read_request
from shared.messages import EvaluationRequest, EvaluationResult, Failure, Measurement
from shared.policy import FAILURES
from shared.telemetry.logs import bound, fields

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
"""How soon a worker that waits notices that it is to stop."""


def worker_name() -> str:
    """What this process is called in a farm: host and process number."""
    return f"{platform.node()}:{os.getpid()}"


class Answering(Protocol):
    """What a worker has its requests answered by."""

    def evaluate(self, request: EvaluationRequest, progressed: ProgressCallback) -> EvaluationResult:
        """The answer to a request. `progressed` is called whenever the evaluation has got on."""
        ...


class WorkerObserver(Protocol):
    """Who wants to know what a worker does."""

    def taken(self, delivery: Delivery, request: EvaluationRequest) -> None:
        """A request was taken, and is going to be evaluated."""
        ...

    def progressed(self) -> None:
        """Its evaluation has got on."""
        ...

    def evaluated(self, outcome: Measurement | Failure, seconds: float) -> None:
        """Its evaluation is over; the broker hasn't the result yet."""
        ...

    def settled(self, pausing: bool) -> None:
        """The request is answered or set aside. `pausing`: no other one is taken before `resumed`."""
        ...

    def resumed(self) -> None:
        """The pause is over."""
        ...


class NullObserver:
    """For a worker that nobody watches."""

    def taken(self, delivery: Delivery, request: EvaluationRequest) -> None:
        """Nobody wants to know."""

    def progressed(self) -> None:
        """Nobody wants to know."""

    def evaluated(self, outcome: Measurement | Failure, seconds: float) -> None:
        """Nobody wants to know."""

    def settled(self, pausing: bool) -> None:
        """Nobody wants to know."""

    def resumed(self) -> None:
        """Nobody wants to know."""


class Worker(threading.Thread):
    """Answers what comes in the queue `requests` until `stop` is set; what is being computed then is finished.

    The result is published, and confirmed, before the request is acknowledged. A request that comes again because its
    connection was lost while it was computed is not computed again. One whose result nobody can take is set aside.
    After a failure that another evaluator may not meet there may be a pause, in which the queue is left to others.

    Args:
        broker: where requests come from and results go.
        requests: the queue.
        evaluator: what answers.
        observer: told of everything, on this thread.
        backoff: how long to pause after failures; never by default.
        ended: called when the thread has nothing more to do; not if somebody else claimed what is on its `desk`, who
            then ends the process.
    """

    def __init__(
        self,
        broker: Broker,
        requests: str,
        evaluator: Answering,
        observer: WorkerObserver | None = None,
        backoff: Backoff | None = None,
        ended: Callable[[], None] = ignore_progress,
    ) -> None:
        super().__init__(name="evaluator")
        self.stop = threading.Event()
        self.desk = LeaseSlot()
        self._broker, self._requests = broker, requests
        self._evaluator, self._observer, self._ended = evaluator, observer or NullObserver(), ended
        self._backoff = backoff
        self._answered = ""
        self._died: BaseException | None = None

    def run(self) -> None:
        try:
            self._serve()
        except _LeaseLostError:
            return
        except BaseException as error:  # carried to the thread that checks
            self._died = error
        self._ended()

    def check(self) -> None:
        """Raise what the worker died of."""
        if self._died is not None:
            raise self._died

    def _serve(self) -> None:
        while not self.stop.is_set():
            delivery = self._broker.receive(self._requests, POLL_SECONDS)
            if delivery is None:
                continue
            if delivery.identity and delivery.identity == self._answered:
                log.info("a request came again that was answered already")
                delivery.ack()
                continue
            if self.stop.is_set():
                self._broker.stop_receiving(self._requests)
                delivery.requeue()
                continue
            request = read_request(self._broker, delivery)
            if request is not None:
                with bound(search=request.search, candidate=request.identity, attempt=delivery.attempt):
                    pause = self._work_on(request, delivery)
                    if pause:
                        self._rest(pause)

    def _work_on(self, request: EvaluationRequest, delivery: Delivery) -> float:
        """Answer a request; returns how long to pause then, in seconds."""
        began = time.monotonic()
        self._observer.taken(delivery, request)
        self.desk.put(Lease(request, delivery, began, self._broker.counters.reconnects))
        result = self._evaluator.evaluate(request, self._observer.progressed)
        assignment = self.desk.claim()
        if assignment is None:
            raise _LeaseLostError
        self._observer.evaluated(result.outcome, time.monotonic() - began)
        pause = self._pause_after(result.outcome)
        if answer(self._broker, assignment, result, last=self.stop.is_set() or pause > 0):
            self._answered = delivery.identity
        self._observer.settled(pausing=pause > 0)
        return pause

    def _pause_after(self, outcome: Measurement | Failure) -> float:
        """How long to leave the queue to others, in seconds."""
        if self._backoff is None:
            return 0.0
        if isinstance(outcome, Failure) and FAILURES[outcome.kind].backs_off:
            return self._backoff.failed()
        self._backoff.reset()
        return 0.0

    def _rest(self, seconds: float) -> None:
        log.warning("pausing, as others may do better", extra=fields(seconds=seconds))
        self.stop.wait(seconds)
        self._observer.resumed()


class _LeaseLostError(Exception):
    """Somebody else claimed the request that was in work."""
