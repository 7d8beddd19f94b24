"""`nasfarm status --broker` and `nasfarm stop`: what an operator sees of a farm, and says to a search."""

import json
import time
from dataclasses import asdict, dataclass
from math import isfinite

from rich.box import SIMPLE_HEAD
from rich.table import Table

from services.application.broker_connection import connected_broker
from services.cli.console import console, duration
from shared.announcements import EvaluatorAnnouncement, SearchAnnouncement, latest
from shared.broker import DEAD_LETTERS, REMEMBERED_SECONDS, Broker, QueueMissingError, requests_queue, results_queue
from shared.broker.address import BrokerAddress
from shared.broker.rabbitmq import QueueDepth, queue_depths, request_stop
from shared.policy import PRESENT_SECONDS
from shared.text import shortened

STOP_SECONDS = 15.0
"""How long a search may take to say that it has stopped; it looks for messages every second or so."""
LOOK_SECONDS = 0.5
DIGEST_SHOWN = 8
QUEUE_NAME_BYTES = 255
"""No queue has a longer name, whatever somebody announces; and none that can't be printed."""
NOTHING = "–"
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
        """Seconds since somebody was heard who should have been since; None if all is well."""
        quiet = self.now - each.sent_at
        ended = each.state in ENDED
        return None if ended or quiet <= PRESENT_SECONDS else quiet


def show_farm(address: BrokerAddress, as_json: bool) -> None:
    """Show searches, evaluators and queues of a farm: as tables, or as one JSON object for programs."""
    status = _look(address)
    if as_json:
        queues = {name: None if depth is None else asdict(depth) for name, depth in status.queues.items()}
        announced = {
            what: [
                {**json.loads(each.model_dump_json()), "silent_seconds": _finite(status.silent(each))} for each in who
            ]
            for what, who in (("searches", status.searches), ("evaluators", status.evaluators))
        }
        print(json.dumps({"time": status.now, **announced, "queues": queues}, indent=1))
        return
    _say_who_is_missing(status)
    tables = [_searches(status)] if status.searches else []
    tables += [_evaluators(status)] if status.evaluators else []
    for table in (*tables, _queues(status)):
        console.print(table)
        console.print()


def _finite(seconds: float | None) -> float | None:
    """JSON has no other numbers; pydantic writes null for them as well."""
    return seconds if seconds is not None and isfinite(seconds) else None


def stop_search(address: BrokerAddress, name: str) -> None:
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
        if before is not None and ended:
            console.print(f"{name} has {before.state} already.")
            return
        deadline = time.monotonic() + (0 if before is None else STOP_SECONDS)
        while time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
            after = _heard_of(broker, name)
            if after is not None and after.state in ENDED:
                went_on = "the same search command goes on with it" if after.state == "stopped" else "it was at its end"
                console.print(f"{name} has {after.state}: {went_on}.")
                return
    if before is None:
        console.print(f"{name} was asked to stop, but nothing is heard of it; one that begins later isn't stopped.")
    else:
        console.print(f"{name} was asked to stop and has not said yet that it did; `nasfarm status --broker` shows it.")


def _heard_of(broker: Broker, search: str) -> SearchAnnouncement | None:
    heard = latest(broker.announced(REMEMBERED_SECONDS))
    return next((each for each in heard if isinstance(each, SearchAnnouncement) and each.name == search), None)


def _look(address: BrokerAddress) -> FarmStatus:
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


def _say_who_is_missing(status: FarmStatus) -> None:
    """In plain words: tables of nobody are easily overlooked."""
    at_work = [each for each in status.searches if each.state not in ENDED and status.silent(each) is None]
    if not status.searches and not status.evaluators:
        console.print(f"Nobody is there: no search and no evaluator was heard for {duration(REMEMBERED_SECONDS)}.")
    elif not at_work:
        console.print("No search is at work.")
    there = [each for each in status.evaluators if status.silent(each) is None]
    for supernet, requests in sorted({(each.supernet, each.requests) for each in at_work}):
        serving = [each.requests for each in there if each.supernet == supernet]
        if not serving:
            console.print(f"No evaluator of super-network {shortened(supernet)} is there: its searches wait for one.")
        elif requests not in serving:
            console.print(
                f"The evaluators of super-network {shortened(supernet)} are of another release; searches wait for "
                "their own."
            )


def _searches(status: FarmStatus) -> Table:
    table = _table("Search", "State", "Measured", "Failed", "In flight", "Hypervolume", "Time left")
    for each in status.searches:
        failures = ", ".join(f"{number} {kind}" for kind, number in sorted(each.failed.items()))
        table.add_row(
            each.name,
            _state(status, each),
            f"{each.measured} of {each.planned}",
            failures or NOTHING,
            str(each.in_flight),
            NOTHING if each.hypervolume is None else f"{each.hypervolume:.4f}",
            NOTHING if each.eta_seconds is None else duration(each.eta_seconds),
        )
    return table


def _evaluators(status: FarmStatus) -> Table:
    several = len({each.supernet for each in status.evaluators}) > 1
    table = _table("Evaluator", "State", "For", "Search", "Measured", "Failed", "Device")
    if several:
        table.add_column("Super-network")
    for each in status.evaluators:
        row: list[str] = [
            each.name,
            _state(status, each),
            duration(max(0.0, status.now - each.since)),
            each.search or NOTHING,
            str(each.measured),
            str(each.failed),
            each.device,
        ]
        table.add_row(*row, *([each.supernet[:DIGEST_SHOWN]] if several else []))
    return table


def _queues(status: FarmStatus) -> Table:
    table = _table("Queue", "Waiting", "Consumers")
    for name, depth in status.queues.items():
        missing = ("missing: python -m shared.broker add", NOTHING)
        table.add_row(name, *(missing if depth is None else (str(depth.ready), str(depth.consumers))))
    return table


def _state(status: FarmStatus, each: SearchAnnouncement | EvaluatorAnnouncement) -> str:
    silent = status.silent(each)
    return each.state if silent is None else f"silent for {duration(silent)}"


def _table(*titles: str) -> Table:
    return Table(*titles, box=SIMPLE_HEAD, show_edge=False)
