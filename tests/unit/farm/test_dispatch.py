"""What is sent when, and each measurement stored once, whatever comes when."""

import time
from itertools import islice, product

import pytest

from services.coordinator.dispatch import SearchStoppedError
from services.coordinator.evaluators import EmbeddedEvaluator
from services.coordinator.history import History
from shared.architecture import Architecture
from shared.errors import UserError
from shared.events import Event, Events, Failed, Measured
from shared.messages import EvaluationRequest, Outcome, StopSearch
from tests.support.pretending import pretend
from tests.support.scripted import (
    FINAL,
    PLAN,
    REQUESTS,
    TRANSIENT,
    ScriptedFarm,
    acting,
    fails,
    request_in,
    value,
)


def stop(world: ScriptedFarm) -> None:
    world.broker.publish(world.results, StopSearch(search=PLAN.settings.name).model_dump_json().encode())


def identities(event: Event) -> list[str]:
    """The network that an event says is measured or failed."""
    return [event.request.identity] if isinstance(event, Measured | Failed) else []


def test_outcomes_come_in_the_order_of_the_requests_and_are_observed_as_they_arrive(
    world: ScriptedFarm, history: History
) -> None:
    observed: list[str] = []
    farm, _, _ = world.coordinator(history, events=Events(lambda event: observed.extend(identities(event))))
    taken: list[EvaluationRequest] = []

    def turn() -> None:
        taken.extend(request_in(delivery) for delivery in world.take_all())
        if taken:
            world.answer(taken[-1], pretend(taken.pop()))  # the last one first

    world.turn = turn
    outcomes = farm.measure(REQUESTS)
    assert outcomes == [pretend(request) for request in REQUESTS]
    assert sorted(observed) == sorted(request.identity for request in REQUESTS)
    assert observed[0] == REQUESTS[1].identity
    assert [history.outcome(request.identity) for request in REQUESTS] == outcomes


@pytest.mark.parametrize("evaluators", [0, 1, 2])
def test_two_requests_are_in_flight_for_each_evaluator_that_is_there(
    world: ScriptedFarm, history: History, evaluators: int
) -> None:
    for number in range(evaluators):
        world.announce(f"host:{number}")
    farm, _, metrics = world.coordinator(history)
    taken: list[EvaluationRequest] = []
    in_flight: list[int] = []

    def turn() -> None:
        taken.extend(request_in(delivery) for delivery in world.take_all())
        if taken:
            in_flight.append(len(taken))
            assert value(metrics, "requests_in_flight") == len(taken)
            request = taken.pop(0)
            world.answer(request, pretend(request))

    world.turn = turn
    farm.measure(REQUESTS)
    most = 2 * max(1, evaluators)
    assert in_flight == [most] * (len(REQUESTS) - most + 1) + list(range(most - 1, 0, -1))
    assert value(metrics, "requests_in_flight") == 0


def test_many_results_are_stored_in_one_transaction_and_replaced_in_one_publishing(
    world: ScriptedFarm, history: History
) -> None:
    for number in range(2):
        world.announce(f"host:{number}")
    farm, connection, _ = world.coordinator(history)

    def turn() -> None:
        for delivery in world.take_all():
            world.answer(request_in(delivery), pretend(request_in(delivery)))

    world.turn = turn
    statements: list[str] = []
    history._connection.set_trace_callback(statements.append)
    farm.measure(REQUESTS)
    assert connection.published == [4, 2]
    assert statements.count("commit") == 2


def test_a_second_measurement_changes_nothing_and_is_counted(world: ScriptedFarm, history: History) -> None:
    farm, _, metrics = world.coordinator(history)

    def twice(request: EvaluationRequest) -> Outcome:
        world.answer(request, pretend(request))
        return pretend(request).model_copy(update={"worker": "another"})

    acting(world, twice)
    assert farm.measure(REQUESTS) == [pretend(request) for request in REQUESTS]
    assert value(metrics, "duplicate_results_total") == len(REQUESTS)


def test_a_second_measurement_that_comes_much_later_changes_nothing_and_is_counted(
    world: ScriptedFarm, history: History
) -> None:
    farm, _, metrics = world.coordinator(history)
    acting(world)
    farm.measure(REQUESTS[:2])
    world.answer(REQUESTS[0], pretend(REQUESTS[0]).model_copy(update={"worker": "another"}))
    farm.measure(REQUESTS[2:])
    assert history.outcome(REQUESTS[0].identity) == pretend(REQUESTS[0])
    assert value(metrics, "duplicate_results_total") == 1


def test_results_that_came_while_no_coordinator_was_there_are_used_before_anything_is_sent(
    world: ScriptedFarm, history: History
) -> None:
    for request in REQUESTS[:4]:
        world.answer(request, pretend(request))
    world.answer(PLAN.request(PLAN.space.largest(), "report"), FINAL)  # of no request of ours
    farm, _, metrics = world.coordinator(history)
    seen = acting(world)
    assert farm.measure(REQUESTS) == [pretend(request) for request in REQUESTS]
    assert seen == [request.identity for request in REQUESTS[4:]]
    assert value(metrics, "duplicate_results_total") == 1


def test_a_result_that_comes_before_its_request_was_asked_for_is_kept_until_it_is(
    world: ScriptedFarm, history: History
) -> None:
    world.answer(REQUESTS[5], pretend(REQUESTS[5]))
    farm, _, _ = world.coordinator(history)
    seen = acting(world)
    farm.measure(REQUESTS[:2])
    assert farm.measure(REQUESTS[2:]) == [pretend(request) for request in REQUESTS[2:]]
    assert REQUESTS[5].identity not in seen
    assert history.outcome(REQUESTS[5].identity) == pretend(REQUESTS[5])


def test_a_lost_request_is_sent_again(world: ScriptedFarm, history: History) -> None:
    farm, _, metrics = world.coordinator(history)
    lost = iter([True])

    def lose_one(request: EvaluationRequest) -> Outcome | None:
        return None if next(lost, False) else pretend(request)

    seen = acting(world, lose_one)
    turn = world.turn

    def time_passes() -> None:
        turn()
        world.now += 10
        world.announce("host:1", idle_for=40)

    world.turn = time_passes
    assert farm.measure(REQUESTS) == [pretend(request) for request in REQUESTS]
    assert value(metrics, "requests_resent_total") == 1
    assert seen.count(REQUESTS[0].identity) == 2 and len(seen) == len(REQUESTS) + 1


def test_a_search_that_is_asked_to_stop_stores_what_came_by_then(world: ScriptedFarm, history: History) -> None:
    world.now = time.time() - 1
    farm, connection, _ = world.coordinator(history)

    def turn() -> None:
        for delivery in world.take_all():
            world.answer(request_in(delivery), pretend(request_in(delivery)))
            stop(world)
            delivery.ack()

    world.turn = turn
    with pytest.raises(SearchStoppedError, match="small was asked to stop"):
        farm.measure(REQUESTS)
    connection.close()
    assert [history.knows(request.identity) for request in REQUESTS] == [True, True, False, False, False, False]
    assert world.broker.receive(world.results, 0) is None and world.take() is None


def test_a_request_to_stop_that_no_run_received_stops_no_later_one(world: ScriptedFarm, history: History) -> None:
    stop(world)
    world.now = time.time() + 1
    farm, _, _ = world.coordinator(history)
    acting(world)
    assert farm.measure(REQUESTS) == [pretend(request) for request in REQUESTS]


def test_results_that_a_full_disk_has_no_room_for_are_not_acknowledged_and_used_by_the_next_run(
    world: ScriptedFarm, history: History
) -> None:
    widths = islice(product((48, 32, 16), repeat=8), 60)
    requests = [PLAN.request(Architecture(layers=tuple(range(8)), mlp_widths=each), "search") for each in widths]
    farm, connection, _ = world.coordinator(history)
    seen = acting(world)
    farm.measure(requests[:2])
    (pages,) = history._connection.execute("pragma page_count").fetchone()
    history._connection.execute(f"pragma max_page_count = {pages}")  # SQLite's own full disk
    with pytest.raises(UserError, match=r"history\.sqlite: .*full; nothing stored so far is lost"):
        farm.measure(requests)
    connection.close()
    history._connection.execute("pragma max_page_count = 1000000")
    assert sum(history.knows(request.identity) for request in requests) == len(seen) - 1 < len(requests) - 2
    world.take_all()  # what was on its way
    again, _, _ = world.coordinator(history)
    assert again.measure(requests) == [pretend(request) for request in requests]
    assert len(seen) == len(set(seen)) == len(requests)


def test_batches_are_measured_side_by_side_and_finished_one_by_one(world: ScriptedFarm, history: History) -> None:
    observed: list[str] = []
    farm, _, _ = world.coordinator(history, events=Events(lambda event: observed.extend(identities(event))))
    seen = acting(world, fails(1, TRANSIENT, of=REQUESTS[0]))
    first, second = farm.begin(REQUESTS[:3]), farm.begin(REQUESTS[2:])
    assert farm.finish(first) == [pretend(request) for request in REQUESTS[:3]]
    assert seen == [request.identity for request in [*REQUESTS, REQUESTS[0]]]
    assert farm.finish(second) == [pretend(request) for request in REQUESTS[2:]]
    assert sorted(observed) == sorted(request.identity for request in REQUESTS)  # also the one that is in both


def test_the_evaluators_own_trouble_is_told_only_when_nothing_comes(world: ScriptedFarm, history: History) -> None:
    def check() -> None:
        raise ZeroDivisionError

    farm, _, _ = world.coordinator(history, EmbeddedEvaluator(check))
    acting(world)
    assert farm.measure(REQUESTS[:2])
    world.turn = lambda: None
    with pytest.raises(ZeroDivisionError):
        farm.measure(REQUESTS[2:])
