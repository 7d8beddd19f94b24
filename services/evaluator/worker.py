"""The evaluator at work: takes requests from the broker, answers them, one at a time."""

import logging
import threading
from typing import Protocol

from shared.broker import Broker, MessageTooLargeError, QueueMissingError, read_request, results_queue
from shared.messages import EvaluationRequest, EvaluationResult
from shared.telemetry.logs import bound

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
"""How soon a worker that waits notices that it is to stop."""


class Answering(Protocol):
    """What a worker has its requests answered by."""

    def evaluate(self, request: EvaluationRequest) -> EvaluationResult: ...


def serve(broker: Broker, requests: str, evaluator: Answering, stop: threading.Event) -> None:
    """Answer what comes in the queue `requests` until `stop` is set; what is being computed then is finished.

    The result is published, and confirmed, before the request is acknowledged. A request that comes again because its
    connection was lost while it was computed is not computed again. One whose result nobody can take is set aside.
    """
    answered = ""
    while not stop.is_set():
        delivery = broker.receive(requests, POLL_SECONDS)
        if delivery is None:
            continue
        if delivery.identity and delivery.identity == answered:
            log.info("a request came again that was answered already")
            delivery.ack()
            continue
        request = read_request(broker, delivery)
        if request is None:
            continue
        with bound(search=request.search, candidate=request.identity, attempt=delivery.attempt):
            result = evaluator.evaluate(request)
            try:
                broker.publish(results_queue(request.search), result.model_dump_json().encode())
            except (QueueMissingError, MessageTooLargeError) as error:
                delivery.set_aside(str(error))
                continue
            answered = delivery.identity
            if stop.is_set():
                broker.stop_receiving(requests)
            delivery.ack()


class Worker(threading.Thread):
    """`serve` on a thread of its own; what it dies of is kept for those who `check`."""

    def __init__(self, broker: Broker, requests: str, evaluator: Answering) -> None:
        super().__init__(name="evaluator")
        self.stop = threading.Event()
        self._work = (broker, requests, evaluator, self.stop)
        self._died: BaseException | None = None

    def run(self) -> None:
        try:
            serve(*self._work)
        except BaseException as error:  # carried to the thread that checks
            self._died = error

    def check(self) -> None:
        """Raise what the worker died of."""
        if self._died is not None:
            raise self._died
