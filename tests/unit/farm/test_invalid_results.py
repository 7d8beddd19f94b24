"""Measurements that are no answers: put aside and counted, never stored; another evaluator is asked."""

import json
import logging

import pytest

from services.coordinator.history import History
from shared.broker import DEAD_LETTERS
from shared.failure_policy import RETRIES
from shared.messages import EvaluationRequest, Failure, Measurement, Outcome
from tests.support.invalid import BROKEN, unfinite
from tests.support.pretending import pretend
from tests.support.scripted import REQUESTS, Act, ScriptedFarm, acting, value


def broken(times: int, outcome: Measurement) -> Act:
    """An evaluator that answers the first request so, some times."""
    left = iter(range(times))

    def act(request: EvaluationRequest) -> Outcome:
        mine = request.identity == REQUESTS[0].identity
        return outcome if mine and next(left, None) is not None else pretend(request)

    return act


@pytest.mark.parametrize("what", BROKEN)
def test_a_measurement_that_is_no_answer_is_rejected_and_the_request_measured_by_another(
    world: ScriptedFarm, history: History, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    farm, _, metrics = world.coordinator(history)
    seen = acting(world, broken(1, BROKEN[what](REQUESTS[0])))
    with caplog.at_level(logging.WARNING):
        outcomes = farm.measure(REQUESTS)
    assert outcomes == [pretend(request) for request in REQUESTS]
    assert [history.outcome(request.identity) for request in REQUESTS] == outcomes
    assert len(seen) == len(REQUESTS) + 1
    assert value(metrics, "invalid_results_total") == 1
    dead = world.broker.receive(DEAD_LETTERS, 0)
    assert dead is not None and dead.dead is not None and "evaluator test answered" in dead.dead
    assert "evaluator test answered" in caplog.text


def test_what_no_evaluator_can_answer_is_the_failure_of_its_network_and_the_next_run_tries_it_again(
    world: ScriptedFarm, history: History
) -> None:
    farm, connection, metrics = world.coordinator(history)
    seen = acting(world, broken(RETRIES + 1, BROKEN["another metric"](REQUESTS[0])))
    outcome = farm.measure(REQUESTS)[0]
    assert isinstance(outcome, Failure) and outcome == history.outcome(REQUESTS[0].identity)
    assert outcome.kind == "invalid_result"
    assert outcome.reason.startswith("evaluator test answered tasks.plain_facts.metric: its lm-eval has no 'acc'")
    assert len(seen) == len(REQUESTS) + RETRIES
    assert value(metrics, "invalid_results_total") == RETRIES + 1
    connection.close()
    assert world.coordinator(history)[0].measure(REQUESTS)[0] == pretend(REQUESTS[0])


def test_an_answer_that_cannot_be_read_is_rejected_and_the_request_measured_by_another(
    world: ScriptedFarm, history: History
) -> None:
    farm, _, metrics = world.coordinator(history)
    spoilt = iter(range(1))

    def turn() -> None:
        delivery = world.take()
        if delivery is None:
            return
        request = EvaluationRequest.model_validate_json(delivery.body)
        if next(spoilt, None) is None:
            world.answer(request, pretend(request))
        else:  # what pydantic makes of NaN, which JSON has no word for
            body = {"version": 1, "identity": request.identity, "search": request.search, "outcome": None}
            world.broker.publish(world.results, json.dumps(body).encode())
        delivery.ack()

    world.turn = turn
    assert farm.measure(REQUESTS) == [pretend(request) for request in REQUESTS]
    assert value(metrics, "invalid_results_total") == 1


def test_an_invalid_answer_of_an_earlier_run_is_not_used(world: ScriptedFarm, history: History) -> None:
    for request in REQUESTS[:2]:
        world.answer(request, unfinite(request))
    farm, _, metrics = world.coordinator(history)
    seen = acting(world)
    farm.measure(REQUESTS[2:3])  # what comes unasked is kept for later
    assert farm.measure(REQUESTS) == [pretend(request) for request in REQUESTS]
    assert len(seen) == len(REQUESTS)
    assert value(metrics, "invalid_results_total") == 2


def test_a_history_that_holds_an_invalid_measurement_ignores_it_and_has_it_measured_again(
    world: ScriptedFarm, history: History
) -> None:
    history.add_results([(REQUESTS[0], BROKEN["another metric"](REQUESTS[0]))])
    history.add_results([(REQUESTS[1], unfinite(REQUESTS[1]))])
    assert history.outcome(REQUESTS[0].identity) is None is history.outcome(REQUESTS[1].identity)
    seen = acting(world)
    assert world.coordinator(history)[0].measure(REQUESTS[:2]) == [pretend(each) for each in REQUESTS[:2]]
    assert len(seen) == 2
    assert world.coordinator(history)[0].measure(REQUESTS[:2]) == [pretend(each) for each in REQUESTS[:2]]
    assert len(seen) == 2
