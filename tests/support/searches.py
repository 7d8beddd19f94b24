"""Searches for tests: settings and plans of a small model, and a farm whose evaluator only pretends to measure."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from services.coordinator.farm import Farm
from services.coordinator.history import History
from services.coordinator.report.content import GenerationRow
from services.coordinator.search import SearchPlan
from shared.architecture import Architecture
from shared.broker import REQUESTS, InProcessBroker, results_queue
from shared.messages import CheckpointRef, EvaluationRequest, EvaluationResult, Failure, ItemScores, Measurement
from shared.settings import parse_settings
from shared.shape import ModelShape
from shared.space import SearchSpace, parameters

SHAPE = ModelShape("llama", 100, 16, 8, 4, 2, 4, 48, tied_embeddings=True)

Answer = Callable[[EvaluationRequest], Measurement | Failure]


def small_plan(**search: Any) -> SearchPlan:
    """A search over the 8-layer `SHAPE`."""
    settings = parse_settings(
        {
            "name": "small",
            "model": "somewhere",
            "space": {"depths": [8, 7, 6], "mlp_widths": [48, 32, 16], "depth_rule": "first"},
            "tasks": [{"name": "plain_facts", "search": {"items": 40}, "report": {"items": 60}}],
            "search": {"evaluations": 20, "population": 8, **search},
        },
        "test",
    )
    return SearchPlan(
        settings=settings,
        space=SearchSpace(SHAPE, settings.space.depths, settings.space.mlp_widths, tuple(range(7, 0, -1))),
        supernet=CheckpointRef(location="there", digest="supernet"),
        base=CheckpointRef(location="elsewhere", digest="base"),
        dtype="float32",
    )


def pretend(request: EvaluationRequest) -> Measurement:
    """A measurement that depends on the request alone: larger networks answer more items right, with some noise."""
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
                margins=tuple(value - 0.5 for value in right),
            )
        )
    return Measurement(
        parameters=size, scores=tuple(scores), seconds={}, tokens=1, worker="test", versions={"device": "none"}
    )


def _chance(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) / 2**32


@contextmanager
def pretending_farm(plan: SearchPlan, history: History, answer: Answer = pretend) -> Iterator[tuple[Farm, list[str]]]:
    """A farm that answers through a real broker, and the identities of all requests that reached it."""
    broker, stop, seen = InProcessBroker(), threading.Event(), list[str]()

    def work() -> None:
        while not stop.is_set():
            delivery = broker.receive(REQUESTS, 0.01)
            if delivery is not None:
                request = EvaluationRequest.model_validate_json(delivery.body)
                seen.append(request.identity)
                result = EvaluationResult(identity=request.identity, search=request.search, outcome=answer(request))
                broker.publish(results_queue(request.search), result.model_dump_json().encode())
                delivery.ack()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield Farm(plan.settings.name, broker, history, lambda: None), seen
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
