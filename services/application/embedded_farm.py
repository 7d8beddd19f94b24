"""The embedded farm: one evaluator in a thread of this process, behind an in-process broker."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.evaluator.evaluator import Evaluator
from services.evaluator.worker import Worker
from shared.broker import Broker, InProcessBroker


@contextmanager
def embedded_farm(evaluator: Evaluator, requests: str) -> Iterator[tuple[Broker, Callable[[], None]]]:
    """A broker with an evaluator behind its queue `requests`, and a check that raises what ended the evaluator."""
    broker = InProcessBroker()
    worker = Worker(broker, requests, evaluator)
    worker.start()
    try:
        yield broker, worker.check
    finally:
        worker.stop.set()
        worker.join()
