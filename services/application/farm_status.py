"""What is heard of a farm: its searches, evaluators and queues; and asking one of its searches to stop."""

import time
from dataclasses import dataclass
from typing import Literal

from services.application.broker_connection import connected_broker
from shared.announcements import EvaluatorAnnouncement, SearchAnnouncement, latest
from shared.broker import DEAD_LETTERS, REMEMBERED_SECONDS, Broker, QueueMissingError, requests_queue, results_queue
from shared.broker.address import BrokerAddress
from shared.broker.rabbitmq import QueueDepth, queue_depths, request_stop
from shared.failure_policy import PRESENT_SECONDS, SEARCH_STOP_SECONDS

LOOK_SECONDS = 0.5
QUEUE_NAME_BYTES = 255
"""No queue has a longer name, whatever is announced; and none that can't be printed."""
ENDED = ("finished", "stopped")


@dataclass(frozen=True)
class FarmStatus:
    """What was heard of a farm lately, `now` being the Unix time, and how full its queues are (None: not there).

    Evaluators that have said that they leave are left out.
    """

    now: float
    searches: tuple[SearchAnnouncement, ...]
    evaluators: tuple[EvaluatorAnnouncement, ...]
    queues: dict[str, QueueDepth | None]

    def silent(self, each: SearchAnnouncement | EvaluatorAnnouncement) -> float | None:
        """Seconds since a service was last heard that should have announced itself since; None if all is well."""
        quiet = self.now - each.sent_at
        ended = each.state in ENDED
        return None if ended or quiet <= PRESENT_SECONDS else quiet


@dataclass(frozen=True)
class StopOutcome:
    """What became of asking a search to stop, and the state in which it was last heard.

    `ended_before`: it had ended already; `ended`: it ended; `silent`: it has not said so yet; `unknown`: nothing is
    heard of it.
    """

    kind: Literal["ended_before", "ended", "silent", "unknown"]
    state: str | None = None


def farm_status(address: BrokerAddress) -> FarmStatus:
    """How a farm is now. Raises BrokerError if its broker isn't reached or refuses."""
    with connected_broker(address, "status", patient=False) as broker:
        heard = latest(broker.announced(REMEMBERED_SECONDS))
    searches = [each for each in heard if isinstance(each, SearchAnnouncement)]
    evaluators = [each for each in heard if isinstance(each, EvaluatorAnnouncement) and each.state != "stopped"]
    searches.sort(key=lambda search: search.name)
    evaluators.sort(key=lambda evaluator: evaluator.name)
    queues = {requests_queue(each.supernet, each.requests) for each in searches}
    queues |= {requests_queue(each.supernet, each.requests) for each in evaluators}
    queues |= {results_queue(each.name) for each in searches}
    queues = {name for name in queues if name.isprintable() and len(name.encode()) <= QUEUE_NAME_BYTES}
    return FarmStatus(
        time.time(), tuple(searches), tuple(evaluators), queue_depths(address, [*sorted(queues), DEAD_LETTERS])
    )


def stop_search(address: BrokerAddress, name: str) -> StopOutcome:
    """Ask a search to end, and wait a little until it says so.

    Raises UserError if the farm has no queue for such a search.
    """
    with connected_broker(address, f"stop {name}", patient=False) as broker:
        before = _heard_of(broker, name)
        ended = before is not None and before.state in ENDED
        try:
            request_stop(address, name)  # whatever was heard: it may have begun again since
        except QueueMissingError:
            if not ended:
                raise
        if before is None:
            return StopOutcome("unknown")
        if ended:
            return StopOutcome("ended_before", before.state)
        deadline = time.monotonic() + SEARCH_STOP_SECONDS
        while time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
            after = _heard_of(broker, name)
            if after is not None and after.state in ENDED:
                return StopOutcome("ended", after.state)
    return StopOutcome("silent", before.state)


def _heard_of(broker: Broker, search: str) -> SearchAnnouncement | None:
    heard = latest(broker.announced(REMEMBERED_SECONDS))
    return next((each for each in heard if isinstance(each, SearchAnnouncement) and each.name == search), None)
