"""Searches for tests: settings and plans of a small model, and a farm whose evaluator only pretends to measure."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.coordinator.farm import Farm
from services.coordinator.front import ReportedNetworks, measure_front
from services.coordinator.generation import GenerationRow
from services.coordinator.history import History
from services.coordinator.plan import SearchPlan
from services.coordinator.search import measure_costs, run_search
from shared.architecture import Architecture
from shared.broker import InProcessBroker, requests_queue, results_queue
from shared.manifest import search_space
from shared.messages import (
    CheckpointRef,
    CostSpec,
    CostTable,
    Dtype,
    EvaluationRequest,
    EvaluationResult,
    Failure,
    ItemScores,
    Measurement,
    PhaseCosts,
    Speed,
)
from shared.settings import parse_settings
from shared.shape import ModelShape
from shared.space import parameters, weight_bytes

SHAPE = ModelShape("llama", 100, 16, 8, 4, 2, 4, 48, tied_embeddings=True)

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


def pretend(request: EvaluationRequest) -> Measurement:
    """A measurement that depends on the request alone: larger networks answer more items right, with some noise. INT8
    costs no accuracy, and makes everything but the first token a little faster."""
    size = parameters(SHAPE, request.architecture)
    share = 0.3 + 0.5 * size / parameters(SHAPE, Architecture(layers=tuple(range(8)), mlp_widths=(48,) * 8))
    scores = []
    for task in request.spec.tasks:
        items = range(task.start, task.stop)
        right = tuple(float(_chance(f"{request.identity}/{item}") < share) for item in items)
        scores.append(
            ItemScores(
                task=task.task,
                items=tuple(items),
                items_digest=f"{task.split}",
                metrics={"acc": right},
                values={"acc": sum(right) / len(right)},
                margins=tuple(value - 0.5 for value in right),
            )
        )
    spec = request.spec
    return Measurement(
        parameters=size,
        bytes=weight_bytes(SHAPE, request.architecture, spec.dtype),
        scores=tuple(scores),
        speed=None if spec.speed is None else _speed(request),
        costs=() if spec.costs is None else pretended_tables(spec.costs, spec.dtype),
        seconds={},
        tokens=1,
        worker="test",
        versions={"device": "none"},
    )


def pretended_tables(costs: CostSpec, dtype: Dtype) -> tuple[CostTable, ...]:
    """Time grows with the width; INT8 reads more slowly and generates faster."""

    def phase(fixed: float, unit: float) -> PhaseCosts:
        return PhaseCosts(fixed=fixed, attention=7 * unit, mlp={width: width * unit for width in costs.mlp_widths})

    return tuple(
        CostTable(
            quantization=quantization,
            engine=costs.engine,
            engine_version="1.2.3",
            device="none",
            dtype=dtype,
            workload=costs.workload,
            prefill=phase(0.01, 0.0003 if quantization == "none" else 0.0004),
            decode=phase(0.001, 0.0001 if quantization == "none" else 0.00007),
        )
        for quantization in costs.quantizations
    )


def _speed(request: EvaluationRequest) -> Speed:
    spec = request.spec.speed
    assert spec is not None
    repeats = [(spec.repeats + repeat) / sum(request.architecture.mlp_widths) for repeat in range(spec.repeats)]
    return Speed(
        engine=spec.engine,
        engine_version="1.2.3",
        device="none",
        dtype=request.spec.dtype,
        workload=spec.workload,
        prefill_tokens_per_second=tuple(10 * each for each in repeats),
        decode_tokens_per_second=tuple(repeats),
    )


def _chance(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) / 2**32


@contextmanager
def pretending_farm(plan: SearchPlan, history: History, answer: Answer = pretend) -> Iterator[tuple[Farm, list[str]]]:
    """A farm that answers through a real broker, and the identities of all requests that reached it."""
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
        yield Farm(plan.settings.name, requests, broker, history, lambda: None), seen
    finally:
        stop.set()
        thread.join()


class Silent:
    """An observer that remembers the generations."""

    def __init__(self) -> None:
        self.generations: list[GenerationRow] = []

    def measured(self, request: EvaluationRequest, outcome: Measurement | Failure) -> None:
        """Nothing to do."""

    def generation_done(self, row: GenerationRow) -> None:
        """Remember."""
        self.generations.append(row)


def search(
    plan: SearchPlan, path: Path, answer: Answer = pretend, report: bool = False
) -> tuple[list[Architecture], list[str], Silent, History]:
    """Search, and measure the front if `report`: the front, the identities of all requests, observer and history."""
    history, observer = History.create_or_resume(path, plan.about()), Silent()
    with pretending_farm(plan, history, answer) as (farm, seen):
        chosen = run_search(plan, measure_costs(plan, history, farm), history, farm, observer)
        if report:
            measure_front(ReportedNetworks(plan, chosen), farm, lambda request, outcome: None)
    return chosen, seen, observer, history


def after(count: int, then: Callable[[EvaluationRequest], Measurement | Failure]) -> Answer:
    """Answer `count` requests as usual, and the others another way."""
    answered = iter(range(10**6))
    return lambda request: pretend(request) if next(answered) < count else then(request)
