"""A crowd of evaluators in one process: they announce themselves and answer at once. Their messages are real.

    python -m tests.support.simulated --broker amqp://127.0.0.1:5672/nasfarm --credentials FILE --supernet DIRECTORY
        --evaluators 1000

They share one connection, and have one request each in flight. What they answer is always the same measurement.
"""

import argparse
import itertools
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

from shared.announcements import EvaluatorAnnouncement
from shared.broker import Delivery, requests_queue, results_queue
from shared.broker.address import BrokerAddress
from shared.broker.rabbitmq import RabbitBroker
from shared.failure_policy import ANNOUNCE_SECONDS
from shared.manifest import SupernetManifest, read_network
from shared.messages import REQUEST_VERSION, EvaluationRequest, EvaluationResult, Measurement
from tests.support.pretending import pretend

AT_ONCE = 100
TICK_SECONDS = 0.1


def announce(broker: RabbitBroker, supernet: str, evaluators: int) -> None:
    """Have one after the other say that it is there."""
    began = time.monotonic()
    for told, number in enumerate(itertools.cycle(range(evaluators))):
        while told >= (time.monotonic() - began) * evaluators / ANNOUNCE_SECONDS:
            time.sleep(TICK_SECONDS)
        now = time.time()
        state = EvaluatorAnnouncement(
            requests=REQUEST_VERSION,
            sent_at=now,
            name=f"crowd:{number}",
            supernet=supernet,
            device="none",
            state="computing",
            since=now,
        )
        broker.announce(state.model_dump_json().encode())


def answer(broker: RabbitBroker, queue: str, measurements: dict[str, Measurement], supernet: Path) -> None:
    """Answer what waits in the queue."""
    deliveries: list[Delivery] = []
    while len(deliveries) < AT_ONCE and (delivery := broker.receive(queue, 0 if deliveries else 0.5)) is not None:
        deliveries.append(delivery)
    answers: dict[str, list[bytes]] = {}
    for delivery in deliveries:
        request = EvaluationRequest.model_validate_json(delivery.body)
        if request.search not in measurements:
            measurements[request.search] = pretend(request, read_network(supernet))
        result = EvaluationResult(
            identity=request.identity, search=request.search, outcome=measurements[request.search]
        )
        answers.setdefault(request.search, []).append(result.model_dump_json().encode())
    for search, bodies in answers.items():
        broker.publish_all(results_queue(search), bodies)
    for delivery in deliveries:
        delivery.ack()


def main() -> None:
    """Answer until killed."""
    parser = argparse.ArgumentParser(prog="simulated")
    parser.add_argument("--broker", required=True)
    parser.add_argument("--credentials", type=Path)
    parser.add_argument("--supernet", type=Path, required=True)
    parser.add_argument("--evaluators", type=int, required=True)
    given = parser.parse_args()
    digest = SupernetManifest.read(given.supernet).digest
    address = BrokerAddress.parse(given.broker, given.credentials)
    with closing(RabbitBroker(address, "crowd", prefetch=given.evaluators)) as broker:
        broker.connect(30)
        threading.Thread(target=announce, args=(broker, digest, given.evaluators), daemon=True).start()
        time.sleep(ANNOUNCE_SECONDS)  # by then all have said so
        sys.stdout.write("crowd ready\n")
        sys.stdout.flush()
        measurements: dict[str, Measurement] = {}
        while True:
            answer(broker, requests_queue(digest), measurements, given.supernet)


if __name__ == "__main__":
    main()
