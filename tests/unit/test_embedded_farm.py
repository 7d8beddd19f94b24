from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest

from services.application.embedded_farm import embedded_farm
from services.coordinator.dispatch import Dispatcher
from services.coordinator.evaluators import EmbeddedEvaluator
from services.coordinator.history import History
from services.coordinator.recorder import HistoryRecorder
from services.evaluator import evaluator as evaluator_module
from services.evaluator.evaluator import Evaluator
from shared.architecture import Architecture, dense
from shared.broker import requests_queue
from shared.environment import Environment
from shared.events import Events
from shared.messages import (
    CheckpointRef,
    EvaluationRequest,
    EvaluationResult,
    EvaluationSpec,
    ItemScores,
    Measurement,
    TaskItems,
)
from shared.supernet.decoder import Decoder
from tests.support.checkpoints import WIDTH, write_checkpoint
from tests.support.content import digest_of
from tests.support.one_by_one import OneByOne
from tests.support.searches import SHAPE, pretend, small_plan


class Broken(OneByOne):
    """An evaluator with a bug that shows at the second request."""

    def __init__(self) -> None:
        self.answered = 0

    def evaluate(self, request: EvaluationRequest, progressed: Callable[[], None]) -> EvaluationResult:
        self.answered += 1
        if self.answered == 2:
            raise ZeroDivisionError("a bug")
        return EvaluationResult(identity=request.identity, search=request.search, outcome=pretend(request))


def test_a_bug_in_the_evaluator_ends_the_search_with_its_own_traceback_and_loses_nothing(tmp_path: Path) -> None:
    plan = small_plan()
    history = History.create_or_resume(tmp_path / "history.sqlite", plan.about())
    requests = [plan.request(network, "search") for network in (dense(SHAPE), plan.space.smallest())]
    with embedded_farm(cast(Evaluator, Broken()), requests_queue("x")) as (broker, check):
        farm = Dispatcher("small", "x", broker, history, Events(HistoryRecorder(history)), EmbeddedEvaluator(check))
        with pytest.raises(ZeroDivisionError, match="a bug"):
            farm.measure(requests)
    assert history.outcome(requests[0].identity) == pretend(requests[0])
    assert history.outcome(requests[1].identity) is None


def test_networks_of_a_generation_share_layers_and_have_the_outcomes_of_each_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path / "model", "llama-grouped-tied")
    reference = CheckpointRef(location=str(tmp_path / "model"), digest=digest_of(tmp_path / "model"))
    items = TaskItems(task="plain_facts", split="test", stop=6)
    requests = [
        EvaluationRequest(
            search="small",
            checkpoint=reference,
            architecture=Architecture(layers=(0, 1, 3), mlp_widths=(WIDTH, *widths)),
            spec=EvaluationSpec(tasks=(items,), dtype="float32"),
        )
        for widths in product((WIDTH, 6), repeat=2)
    ]
    sizes, real = list[int](), evaluator_module.score_together

    def noted(networks: Sequence[Decoder], *others: Any) -> list[ItemScores]:
        sizes.append(len(networks))
        return real(networks, *others)

    monkeypatch.setattr(evaluator_module, "score_together", noted)
    environment = Environment(data=None, cache=tmp_path / "cache", threads=1)
    history = History.create_or_resume(tmp_path / "history.sqlite", small_plan().about())
    with embedded_farm(Evaluator(environment), requests_queue("x")) as (broker, check):
        farm = Dispatcher("small", "x", broker, history, Events(HistoryRecorder(history)), EmbeddedEvaluator(check))
        farm.measure(requests[:1])
        outcomes = farm.measure(requests)
    assert sizes[0] == 1 and sum(sizes) == 4 and max(sizes) > 1
    alone = Evaluator(environment)
    for request, outcome in zip(requests, outcomes, strict=True):
        assert isinstance(outcome, Measurement) and outcome.scores == alone.measure(request).scores
