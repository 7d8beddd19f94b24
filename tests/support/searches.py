"""Searches for tests: settings and plans of a small model, and a farm whose evaluator only pretends to measure."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.coordinator.dispatch import Dispatcher
from services.coordinator.evaluators import EmbeddedEvaluator
from services.coordinator.front_measurement import measure_front
from services.coordinator.history import History
from services.coordinator.plan import SearchPlan
from services.coordinator.recorder import HistoryRecorder
from services.coordinator.reported_networks import ReportedNetworks
from services.coordinator.search import measure_costs, run_search
from services.reporting.report_item_use import record_report_item_use
from shared.architecture import Architecture
from shared.broker import InProcessBroker, requests_queue, results_queue
from shared.events import Event, Events, GenerationDone
from shared.generation import GenerationRow
from shared.manifest import search_space
from shared.messages import (
    CheckpointRef,
    EvaluationRequest,
    EvaluationResult,
    Failure,
    Measurement,
)
from shared.settings import parse_settings
from tests.support.pretending import SHAPE, pretend

Answer = Callable[[EvaluationRequest], Measurement | Failure]

SERVED = {
    "objectives": ["bytes", "decode_seconds"],
    "space": {"quantization": ["none", "int8"]},
    "serving": {"batch": 2, "prompt_tokens": 16, "generated_tokens": 4, "repeats": 3},
}
"""Changes to the small search: two objectives, INT8 as a gene."""
REMEASURED = {"serving": {"repeats": 3}, "remeasure_int8": True}
"""Speeds and INT8, but only of the front."""


def small_plan(changes: dict[str, Any] | None = None, **search: Any) -> SearchPlan:
    """A search over the 8-layer `SHAPE`; `changes` replace sections, but add to `space`."""
    sections = {**(changes or {})}
    space = {"depths": [8, 7, 6], "mlp_widths": [48, 32, 16], "depth_rule": "first", **sections.pop("space", {})}
    settings = parse_settings(
        {
            "name": "small",
            "model": "somewhere",
            "space": space,
            "tasks": [{"name": "plain_facts", "search": {"items": 40}, "report": {"items": 60}}],
            "search": {"evaluations": 20, "population": 8, **search},
            **sections,
        },
        "test",
    )
    return SearchPlan(
        settings=settings,
        space=search_space(SHAPE, settings.space, tuple(range(7, 0, -1))),
        supernet=CheckpointRef(location="there", digest="supernet"),
        base=CheckpointRef(location="elsewhere", digest="base"),
        dtype="float32",
    )


@contextmanager
def pretending_farm(
    plan: SearchPlan, history: History, answer: Answer = pretend, events: Events | None = None
) -> Iterator[tuple[Dispatcher, list[str]]]:
    """A farm that answers through a real broker, and the identities of all requests that reached it; what happens is
    recorded first, then published to `events`."""
    broker, stop, seen = InProcessBroker(), threading.Event(), list[str]()
    requests = requests_queue(plan.supernet.digest)

    def work() -> None:
        while not stop.is_set():
            delivery = broker.receive(requests, 0.01)
            if delivery is not None:
                request = EvaluationRequest.model_validate_json(delivery.body)
                seen.append(request.identity)
                result = EvaluationResult(identity=request.identity, search=request.search, outcome=answer(request))
                broker.publish(results_queue(request.search), result.model_dump_json().encode())
                delivery.ack()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        published = events or Events()
        published.subscribe(HistoryRecorder(history), first=True)
        evaluators = EmbeddedEvaluator(lambda: None)
        yield Dispatcher(plan.settings.name, plan.supernet.digest, broker, history, published, evaluators), seen
    finally:
        stop.set()
        thread.join()


class GenerationList:
    """A subscriber that remembers the generations."""

    def __init__(self) -> None:
        self.generations: list[GenerationRow] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, GenerationDone):
            self.generations.append(event.row)


def search(
    plan: SearchPlan, path: Path, answer: Answer = pretend, report: bool = False
) -> tuple[list[Architecture], list[str], GenerationList, History]:
    """Search, and measure the front if `report`: the front, the identities of all requests, the generations and the
    history."""
    history, done = History.create_or_resume(path, plan.about()), GenerationList()
    events = Events(done)
    with pretending_farm(plan, history, answer, events) as (dispatcher, seen):
        costs = measure_costs(plan, history, dispatcher, events)
        chosen = run_search(plan, costs, history, dispatcher, events)
        if report:
            networks = ReportedNetworks(plan, costs, chosen)
            record_report_item_use(networks, history)
            measure_front(networks, dispatcher, events)
    return chosen, seen, done, history


def after(count: int, then: Callable[[EvaluationRequest], Measurement | Failure]) -> Answer:
    """Answer `count` requests as usual, and the others another way."""
    answered = iter(range(10**6))
    return lambda request: pretend(request) if next(answered) < count else then(request)


def refused(request: EvaluationRequest) -> Failure:
    """An evaluator that can't do what is asked."""
    return Failure(kind="bad_request", reason="no engine here")


def only(wrong: Callable[[EvaluationRequest], bool], otherwise: Answer = refused) -> Answer:
    """Answer the requests that are `wrong` another way."""
    return lambda request: otherwise(request) if wrong(request) else pretend(request)
