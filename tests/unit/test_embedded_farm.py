from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from services.application.embedded_farm import embedded_farm
from services.coordinator.dispatch import Dispatcher
from services.coordinator.evaluators import EmbeddedEvaluator
from services.coordinator.history import History
from services.coordinator.recorder import HistoryRecorder
from services.evaluator.evaluator import Evaluator
from shared.architecture import dense
from shared.broker import requests_queue
from shared.events import Events
from shared.messages import EvaluationRequest, EvaluationResult
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
