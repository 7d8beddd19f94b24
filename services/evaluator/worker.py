"""The evaluator as a service: takes requests from the broker, answers them, one at a time."""

import threading

from services.evaluator.evaluator import Evaluator
from shared.broker import REQUESTS, Broker, results_queue
from shared.messages import EvaluationRequest

POLL_SECONDS = 0.2
"""How soon a worker that waits notices that it is to stop."""


def serve(broker: Broker, evaluator: Evaluator, stop: threading.Event) -> None:
    """Answer requests until `stop` is set. The result is published before the request is acknowledged."""
    while not stop.is_set():
        delivery = broker.receive(REQUESTS, POLL_SECONDS)
        if delivery is None:
            continue
        request = EvaluationRequest.model_validate_json(delivery.body)
        result = evaluator.evaluate(request)
        broker.publish(results_queue(request.search), result.model_dump_json().encode())
        delivery.ack()
