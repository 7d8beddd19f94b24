"""The embedded farm: one evaluator in a thread of this process, behind an in-process broker."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.evaluator.evaluator import Evaluator
from services.evaluator.worker import serve
from shared.broker import Broker, InProcessBroker


@contextmanager
def embedded_farm(evaluator: Evaluator, requests: str) -> Iterator[tuple[Broker, Callable[[], None]]]:
    """A broker with an evaluator behind its queue `requests`, and a check that raises what the evaluator died of."""
    broker, stop = InProcessBroker(), threading.Event()
    died: list[BaseException] = []

    def work() -> None:
        try:
            serve(broker, requests, evaluator, stop)
        except BaseException as error:  # carried to the thread that waits for results
            died.append(error)

    def check() -> None:
        if died:
            raise died[0]

    thread = threading.Thread(target=work, name="evaluator")
    thread.start()
    try:
        yield broker, check
    finally:
        stop.set()
        thread.join()
