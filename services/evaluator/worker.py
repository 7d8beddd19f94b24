"""The evaluator's main loop: receives requests from the broker and answers them, one message at a time."""

import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from services.evaluator.lease import Lease, LeaseSlot, answer, said_of
from services.evaluator.progress_callback import ProgressCallback, ignore_progress
from shared.backoff import Backoff
from shared.broker import Broker, Delivery, read_requests
from shared.failure_policy import FAILURES
from shared.messages import EvaluationRequest, EvaluationResult, Failure, Measurement
from shared.telemetry.logs import bound, fields

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
"""How soon a worker that waits notices that it is to stop."""


def worker_name() -> str:
    """What this process is called in a farm: host and process number."""
    return f"{platform.node()}:{os.getpid()}"


class RequestEvaluator(Protocol):
    """Answers a worker's requests."""

    def evaluate_together(
        self, requests: Sequence[EvaluationRequest], progressed: ProgressCallback
    ) -> list[EvaluationResult]:
        """The answers to the requests of one message, in their order. `progressed` is called after each step of the
        evaluation."""
        ...


class WorkerObserver(Protocol):
    """Is told what a worker does."""

    def received(self, delivery: Delivery, requests: Sequence[EvaluationRequest]) -> None:
        """A message was received, and its requests are going to be evaluated."""
        ...

    def progressed(self) -> None:
        """A step of their evaluation is done."""
        ...

    def evaluated(self, results: Sequence[EvaluationResult], seconds: float) -> None:
        """Their evaluation is over, all together in `seconds`; the results are not published yet."""
        ...

    def settled(self, pausing: bool) -> None:
        """The message is acknowledged or rejected. `pausing`: no other one is received before `resumed`."""
        ...

    def resumed(self) -> None:
        """The pause is over."""
        ...


class NullObserver:
    """Does nothing."""

    def received(self, delivery: Delivery, requests: Sequence[EvaluationRequest]) -> None:
        """Does nothing."""

    def progressed(self) -> None:
        """Does nothing."""

    def evaluated(self, results: Sequence[EvaluationResult], seconds: float) -> None:
        """Does nothing."""

    def settled(self, pausing: bool) -> None:
        """Does nothing."""

    def resumed(self) -> None:
        """Does nothing."""


class Worker(threading.Thread):
    """Answers the requests of the queue `requests` until `stop` is set; an evaluation in flight then is finished.

    Results are published, and confirmed, before their message is acknowledged. One that is redelivered because the
    connection was lost during its evaluation is not evaluated again; one that another evaluator was lost with is
    evaluated network by network. One whose results can't be delivered is rejected. After a failure that another
    evaluator may not have there may be a pause, in which the queue is left to others.

    Args:
        broker: where requests come from and results go.
        requests: the queue.
        evaluator: answers the requests.
        observer: is told of everything, on this thread.
        backoff: how long to pause after failures; never by default.
        ended: called when the thread has nothing more to do; not if another thread claimed its lease, which then ends
            the process.
    """

    def __init__(
        self,
        broker: Broker,
        requests: str,
        evaluator: RequestEvaluator,
        observer: WorkerObserver | None = None,
        backoff: Backoff | None = None,
        ended: Callable[[], None] = ignore_progress,
    ) -> None:
        super().__init__(name="evaluator")
        self.stop = threading.Event()
        self.lease_slot = LeaseSlot()
        self._broker, self._requests = broker, requests
        self._evaluator, self._observer, self._ended = evaluator, observer or NullObserver(), ended
        self._backoff = backoff
        self._answered = ""
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._serve()
        except _LeaseLostError:
            return
        except BaseException as error:  # raised again by `check`, in another thread
            self._error = error
        self._ended()

    def check(self) -> None:
        """Raise the exception that ended the thread, if one did."""
        if self._error is not None:
            raise self._error

    def _serve(self) -> None:
        while not self.stop.is_set():
            delivery = self._broker.receive(self._requests, POLL_SECONDS)
            if delivery is None:
                continue
            if delivery.identity and delivery.identity == self._answered:
                log.info("a request was redelivered that is answered already")
                delivery.ack()
                continue
            if self.stop.is_set():
                self._broker.stop_receiving(self._requests)
                delivery.requeue()
                continue
            requests = read_requests(self._broker, delivery)
            if requests:
                with bound(**said_of(requests), attempt=delivery.attempt):
                    pause = self._work_on(requests, delivery)
                    if pause:
                        self._rest(pause)

    def _work_on(self, requests: tuple[EvaluationRequest, ...], delivery: Delivery) -> float:
        """Answer the requests of a message; returns how long to pause then, in seconds."""
        began = time.monotonic()
        self._observer.received(delivery, requests)
        self.lease_slot.hold(Lease(requests, delivery, began, self._broker.counters.reconnects))
        # What its last evaluator was killed for may be the memory that several networks take together.
        groups = [requests] if delivery.attempt == 1 else [(each,) for each in requests]
        results = [one for some in groups for one in self._evaluator.evaluate_together(some, self._observer.progressed)]
        lease = self.lease_slot.claim()
        if lease is None:
            raise _LeaseLostError
        self._observer.evaluated(results, time.monotonic() - began)
        pause = self._pause_after([result.outcome for result in results])
        if answer(self._broker, lease, results, last=self.stop.is_set() or pause > 0):
            self._answered = delivery.identity
        self._observer.settled(pausing=pause > 0)
        return pause

    def _pause_after(self, outcomes: Sequence[Measurement | Failure]) -> float:
        """How long to leave the queue to others, in seconds."""
        if self._backoff is None:
            return 0.0
        if any(isinstance(outcome, Failure) and FAILURES[outcome.kind].backs_off for outcome in outcomes):
            return self._backoff.failed()
        self._backoff.reset()
        return 0.0

    def _rest(self, seconds: float) -> None:
        log.warning("pausing: another evaluator may not have this failure", extra=fields(seconds=seconds))
        self.stop.wait(seconds)
        self._observer.resumed()


class _LeaseLostError(Exception):
    """Another thread claimed the lease of what was evaluated."""
