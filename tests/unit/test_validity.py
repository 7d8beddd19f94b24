"""What is an answer to a request, and what only looks like one."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from services.coordinator.validity import flaw
from shared.architecture import dense
from shared.messages import EvaluationRequest, Failure, Measurement
from shared.settings import metrics_by_task
from tests.support.invalid import BROKEN, with_scores, with_values
from tests.support.pretending import SHAPE, pretend
from tests.support.searches import SERVED, small_plan

PLAN = small_plan(SERVED)
SERVING = PLAN.settings.serving
assert SERVING is not None
SCORES = PLAN.request(dense(SHAPE), "search")
COSTS = PLAN.costs_request(SERVING)
SPEEDS = PLAN.speeds_request(SERVING, [dense(SHAPE), PLAN.space.smallest(), PLAN.space.largest(6)])


def found(request: EvaluationRequest, measurement: Measurement) -> str | None:
    return flaw(request, measurement, metrics_by_task(PLAN.settings.tasks))


@pytest.mark.parametrize("request_", [SCORES, COSTS, SPEEDS], ids=["scores", "costs", "speeds"])
def test_an_answer_has_no_flaw(request_: EvaluationRequest) -> None:
    assert found(request_, pretend(request_)) is None


@pytest.mark.parametrize("what", BROKEN)
def test_scores_that_are_no_answer_are_told_in_one_line(what: str) -> None:
    told = found(SCORES, BROKEN[what](SCORES))
    assert told is not None and "\n" not in told


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_no_answer_wherever_they_stand(number: float) -> None:
    margins = pretend(SCORES).scores[0].margins
    right = pretend(SCORES).scores[0].metrics["acc"]
    for measured in (
        with_values(SCORES, lambda values: (*values[1:], number)),
        with_scores(SCORES, margins=(*margins[1:], number)),
        with_scores(SCORES, margins_by_metric={"acc_norm": (*margins[1:], number)}),
        with_scores(SCORES, values={"acc": number}),
        with_scores(SCORES, metrics={"acc": right, "acc_norm": (*right[1:], number)}),
    ):
        assert found(SCORES, measured) is not None


def test_a_fraction_of_an_answer_that_is_right_is_an_answer() -> None:
    assert found(SCORES, with_values(SCORES, lambda values: (*values[1:], 0.5))) is None


def speeds(change: Callable[[Measurement], dict[str, Any]]) -> Measurement:
    return pretend(SPEEDS).model_copy(update=change(pretend(SPEEDS)))


@pytest.mark.parametrize("rates", [(), (1.0, 2.0), (1.0, 2.0, math.nan), (1.0, 2.0, math.inf), (1.0, 2.0, 0.0)])
def test_speeds_are_finite_and_positive_and_of_every_repeat(rates: tuple[float, ...]) -> None:
    speed = pretend(SPEEDS).speed
    assert speed is not None
    for name in ("prefill_tokens_per_second", "decode_tokens_per_second"):
        wrong = speed.model_copy(update={name: rates})
        assert found(SPEEDS, pretend(SPEEDS).model_copy(update={"speed": wrong})) is not None
        others = (*pretend(SPEEDS).speeds[:-1], wrong)
        assert found(SPEEDS, pretend(SPEEDS).model_copy(update={"speeds": others})) is not None


def test_speeds_are_of_all_networks_that_were_asked_for_and_may_say_why_one_has_none() -> None:
    failure = Failure(kind="infeasible", reason="no INT8 here")
    assert found(SPEEDS, speeds(lambda measured: {"speeds": (failure, measured.speeds[1])})) is None
    assert found(SPEEDS, speeds(lambda measured: {"speed": None})) == "not the speeds of 3 networks"
    assert found(SPEEDS, speeds(lambda measured: {"speeds": measured.speeds[1:]})) == "not the speeds of 3 networks"


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0])
def test_costs_are_finite_and_positive(seconds: float) -> None:
    tables = pretend(COSTS).costs
    for phase in ("prefill", "decode"):
        costs = getattr(tables[0], phase).model_copy(update={"fixed": seconds})
        wrong = tables[0].model_copy(update={phase: costs})
        assert found(COSTS, pretend(COSTS).model_copy(update={"costs": (wrong, *tables[1:])})) is not None


def test_cost_tables_are_of_all_quantizations_and_widths_that_were_asked_for() -> None:
    tables = pretend(COSTS).costs
    assert found(COSTS, pretend(COSTS).model_copy(update={"costs": tables[1:]})) is not None
    narrow = tables[0].prefill.model_copy(update={"mlp": {16: 0.1}})
    wrong = tables[0].model_copy(update={"prefill": narrow})
    assert found(COSTS, pretend(COSTS).model_copy(update={"costs": (wrong, *tables[1:])})) is not None


def test_a_request_of_some_of_the_tasks_is_judged_by_these_tasks_metrics() -> None:
    other = SCORES.spec.tasks[0].model_copy(update={"task": "other"})
    request_ = SCORES.model_copy(update={"spec": SCORES.spec.model_copy(update={"tasks": (other,)})})
    assert flaw(request_, pretend(request_), {"plain_facts": "acc_norm", "other": "acc"}) is None
    assert flaw(request_, pretend(request_), {"plain_facts": "acc", "other": "acc_norm"}) is not None
