"""The evaluator as a service: takes requests from the broker, answers them, one at a time."""

import threading

from services.evaluator.evaluator import Evaluator
from shared.broker import Broker, read_request, results_queue

POLL_SECONDS = 0.2
"""How soon a worker that waits notices that it is to stop."""


def serve(broker: Broker, requests: str, evaluator: Evaluator, stop: threading.Event) -> None:
    """Answer what comes in the queue `requests` until `stop` is set.

    The result is published before the request is acknowledged.
    """
    while not stop.is_set():
        delivery = broker.receive(requests, POLL_SECONDS)
        if delivery is None:
            continue
        request = read_request(broker, delivery)
        if request is None:
            continue
        result = evaluator.evaluate(request)
        broker.publish(results_queue(request.search), result.model_dump_json().encode())
        delivery.ack()
