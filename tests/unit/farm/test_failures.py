"""What fails, and what is no answer: tried again, stored as it is, or the end of the search."""

from itertools import count

import pytest

from services.coordinator.history import History
from shared.broker import DEAD_LETTERS
from shared.errors import UserError
from shared.events import Event, Events, Failed
from shared.failure_policy import FAILURES, RETRIES
from shared.messages import Failure, FailureKind, Measurement
from tests.support.pretending import pretend
from tests.support.scripted import (
    FINAL,
    REQUESTS,
    TRANSIENT,
    ScriptedFarm,
    acting,
    fails,
    request_in,
    value,
    waiting,
)

BAD = Failure(kind="bad_request", reason="no such task")
UNSUITABLE = Failure(kind="unavailable", reason="no checkpoint here")


def test_a_failure_that_may_end_better_is_tried_again_at_the_end_of_the_queue(
    world: ScriptedFarm, history: History
) -> None:
    farm, _, _ = world.coordinator(history)
    seen = acting(world, fails(RETRIES, TRANSIENT, of=REQUESTS[0]))
    assert farm.measure(REQUESTS) == [pretend(request) for request in REQUESTS]
    first = REQUESTS[0].identity
    assert [place for place, identity in enumerate(seen) if identity == first] == [0, len(REQUESTS), len(REQUESTS) + 1]


def test_a_failure_is_the_networks_own_when_its_retries_are_used_up(world: ScriptedFarm, history: History) -> None:
    published: list[Event] = []
    farm, _, _ = world.coordinator(history, events=Events(published.append))
    seen = acting(world, fails(RETRIES + 1, TRANSIENT, of=REQUESTS[0]))
    outcomes = farm.measure(REQUESTS)
    assert outcomes[0] == TRANSIENT == history.outcome(REQUESTS[0].identity)
    assert len(seen) == len(REQUESTS) + RETRIES
    assert published.count(Failed(REQUESTS[0], TRANSIENT)) == 1


def test_a_failure_that_no_retry_helps_is_stored_at_once(world: ScriptedFarm, history: History) -> None:
    farm, _, _ = world.coordinator(history)
    seen = acting(world, fails(1, FINAL, of=REQUESTS[0]))
    assert farm.measure(REQUESTS)[0] == FINAL == history.outcome(REQUESTS[0].identity)
    assert len(seen) == len(REQUESTS)


@pytest.mark.parametrize(
    ("kind", "lasts"),
    [
        ("timed_out", False),
        ("crashed", False),
        ("dead_lettered", False),
        ("out_of_memory", False),
        ("unsupported", False),
        ("infeasible", True),
    ],
)
def test_of_what_failed_in_one_run_the_next_one_tries_again_whatever_may_have_been_repaired(
    world: ScriptedFarm, history: History, kind: FailureKind, lasts: bool
) -> None:
    failure, attempts = Failure(kind=kind, reason="as it was"), RETRIES + 1 if FAILURES[kind].retried else 1
    seen = acting(world, fails(attempts, failure, of=REQUESTS[0]))
    farm, connection, _ = world.coordinator(history)
    assert farm.measure(REQUESTS)[0] == failure
    assert farm.measure(REQUESTS[:1])[0] == failure  # in the same run it is final
    connection.close()
    outcome = world.coordinator(history)[0].measure(REQUESTS)[0]
    assert outcome == (failure if lasts else pretend(REQUESTS[0]))
    assert len(seen) == len(REQUESTS) - 1 + attempts + (not lasts)


@pytest.mark.parametrize(("failure", "attempts"), [(BAD, 1), (UNSUITABLE, RETRIES + 1)])
def test_a_bad_request_ends_the_search_when_no_evaluator_is_left_to_try_and_is_not_stored(
    world: ScriptedFarm, history: History, failure: Failure, attempts: int
) -> None:
    farm, connection, _ = world.coordinator(history)
    seen = acting(world, fails(10, failure, of=REQUESTS[0]))
    with pytest.raises(UserError, match=failure.reason):
        farm.measure(REQUESTS)
    connection.close()
    assert seen.count(REQUESTS[0].identity) == attempts
    assert history.outcome(REQUESTS[0].identity) is None
    assert waiting(world) == []  # or the next run would end with it too


def test_a_bad_request_that_another_evaluator_understands_is_measured(world: ScriptedFarm, history: History) -> None:
    farm, _, _ = world.coordinator(history)
    acting(world, fails(1, UNSUITABLE, of=REQUESTS[0]))
    assert farm.measure(REQUESTS) == [pretend(request) for request in REQUESTS]


def test_a_tolerant_batch_takes_a_bad_request_for_a_failure_and_the_next_run_tries_it_again(
    world: ScriptedFarm, history: History
) -> None:
    acting(world, fails(1, BAD, of=REQUESTS[0]))
    assert world.coordinator(history)[0].measure(REQUESTS, tolerant=True)[0] == BAD
    assert world.coordinator(history)[0].measure(REQUESTS, tolerant=True)[0] == pretend(REQUESTS[0])


def test_what_comes_together_with_a_measurement_on_other_items_is_stored_and_that_one_dropped(
    world: ScriptedFarm, history: History
) -> None:
    farm, connection, _ = world.coordinator(history)

    def turn() -> None:
        for delivery in world.take_all():
            measured = pretend(request_in(delivery))
            if request_in(delivery) == REQUESTS[1]:
                scores = tuple(score.model_copy(update={"items_digest": "changed"}) for score in measured.scores)
                measured = measured.model_copy(update={"scores": scores})
            world.answer(request_in(delivery), measured)

    world.announce("host:1")
    world.announce("host:2")
    world.turn = turn
    with pytest.raises(UserError, match=r"tasks\.plain_facts: its data or prompts differ"):
        farm.measure(REQUESTS)
    connection.close()
    assert [isinstance(history.outcome(request.identity), Measurement) for request in REQUESTS[:4]] == [
        True,
        False,
        True,
        True,
    ]
    assert waiting(world) == []
    acting(world)
    assert world.coordinator(history)[0].measure(REQUESTS) == [pretend(request) for request in REQUESTS]


def test_a_second_copy_of_a_failure_doesnt_use_up_a_retry(world: ScriptedFarm, history: History) -> None:
    farm, connection, metrics = world.coordinator(history)
    seen = acting(world, fails(RETRIES, TRANSIENT, of=REQUESTS[0]))
    evaluate, turns = world.turn, count()

    def turn() -> None:
        if next(turns) % 2:  # what the broker delivered is delivered again, after the request was sent anew
            connection.deliver_again()
        else:
            evaluate()

    world.turn = turn
    assert farm.measure(REQUESTS[:1]) == [pretend(REQUESTS[0])]
    assert len(seen) == RETRIES + 1
    assert value(metrics, "duplicate_results_total") == RETRIES


@pytest.mark.parametrize("failure", [TRANSIENT, BAD, UNSUITABLE])
def test_a_failure_of_an_earlier_run_that_may_be_fixed_by_now_is_ignored(
    world: ScriptedFarm, history: History, failure: Failure
) -> None:
    world.answer(REQUESTS[0], failure)
    farm, _, _ = world.coordinator(history)
    seen = acting(world)
    assert farm.measure(REQUESTS) == [pretend(request) for request in REQUESTS]
    assert len(seen) == len(REQUESTS)


def test_a_request_that_kills_every_evaluator_becomes_a_failure_of_its_network(
    world: ScriptedFarm, history: History
) -> None:
    farm, _, metrics = world.coordinator(history)

    def turn() -> None:
        delivery = world.take()
        if delivery is None:
            return
        if request_in(delivery) == REQUESTS[0]:
            delivery.requeue()
        else:
            world.answer(request_in(delivery), pretend(request_in(delivery)))
            delivery.ack()

    world.turn = turn
    outcome = farm.measure(REQUESTS)[0]
    assert isinstance(outcome, Failure) and outcome.kind == "dead_lettered"
    assert value(metrics, "dead_letters_total", reason="delivery_limit") == 1


def test_messages_that_are_no_results_are_rejected_and_nothing_stops(world: ScriptedFarm, history: History) -> None:
    for body in (b"", b"{", b'{"version": 99}', b"\xff" * 100):
        world.broker.publish(world.results, body)
    farm, _, _ = world.coordinator(history)
    acting(world)
    assert farm.measure(REQUESTS) == [pretend(request) for request in REQUESTS]
    assert sum(world.broker.receive(DEAD_LETTERS, 0) is not None for _ in range(10)) == 4
