"""`nasfarm status --broker` and `nasfarm stop`: what an operator sees of a farm, and says to a search."""

import json
from dataclasses import asdict
from math import isfinite

from rich.box import SIMPLE_HEAD
from rich.table import Table

from services.application import farm_status
from services.application.farm_status import ENDED, FarmStatus
from services.cli.console import console, duration
from shared.announcements import EvaluatorAnnouncement, SearchAnnouncement
from shared.broker import REMEMBERED_SECONDS
from shared.broker.address import BrokerAddress
from shared.text import shortened

DIGEST_SHOWN = 8
NOTHING = "–"


def show_farm(address: BrokerAddress, as_json: bool) -> None:
    """Show searches, evaluators and queues of a farm: as tables, or as one JSON object for programs."""
    status = farm_status.farm_status(address)
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
    """Ask a search to end, and say what became of that; errors as of the application's."""
    outcome = farm_status.stop_search(address, name)
    match outcome.kind:
        case "ended_before":
            said = f"{name} has {outcome.state} already."
        case "ended":
            resumed = "the same search command resumes it" if outcome.state == "stopped" else "it was at its end"
            said = f"{name} has {outcome.state}: {resumed}."
        case "unknown":
            said = f"{name} was asked to stop, but has not announced itself; one that begins later isn't stopped."
        case "silent":
            said = f"{name} was asked to stop and has not said yet that it did; `nasfarm status --broker` shows it."
    console.print(said)


def _say_who_is_missing(status: FarmStatus) -> None:
    """In plain words: an empty table is easily overlooked."""
    at_work = [each for each in status.searches if each.state not in ENDED and status.silent(each) is None]
    if not status.searches and not status.evaluators:
        console.print(f"No search or evaluator has announced itself for {duration(REMEMBERED_SECONDS)}.")
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
