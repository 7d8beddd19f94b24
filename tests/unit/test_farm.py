import time
from collections.abc import Callable, Iterator
from itertools import count, islice, product
from pathlib import Path

import pytest

from services.coordinator.batch import Outcome
from services.coordinator.evaluators import EmbeddedEvaluator
from services.coordinator.farm import RETRIES, SearchStoppedError
from services.coordinator.history import History
from shared.architecture import Architecture
from shared.broker import DEAD_LETTERS
from shared.errors import UserError
from shared.messages import EvaluationRequest, EvaluationResult, Failure, Measurement, StopSearch
from tests.support.scripted import FINAL, TRANSIENT, ScriptedFarm, request_in, value
from tests.support.searches import pretend, small_plan

PLAN = small_plan()
REQUESTS = [
    PLAN.request(network, "search")
    for depth in (8, 7, 6)
    for network in (PLAN.space.largest(depth), PLAN.space.smallest(depth))
]
BAD = Failure(kind="bad_request", reason="no such task", retry_may_help=False)
UNSUITABLE = Failure(kind="bad_request", reason="no GPU here", retry_may_help=True)

Act = Callable[[EvaluationRequest], Outcome | None]


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    opened = History.create_or_resume(tmp_path / "history.sqlite", PLAN.about())
    yield opened
    opened.close()


@pytest.fixture
def world() -> ScriptedFarm:
    return ScriptedFarm(PLAN)


def unheard(request: EvaluationRequest, outcome: Outcome) -> None:
    """Nobody wants to know."""


def acting(world: ScriptedFarm, act: Act = pretend) -> list[str]:
    """Let an evaluator answer one request whenever the coordinator waits; the identities of all that it took."""
    seen: list[str] = []

    def turn() -> None:
        delivery = world.take()
        if delivery is not None:
            request = request_in(delivery)
            seen.append(request.identity)
            outcome = act(request)
            if outcome is not None:
                world.answer(request, outcome)
            delivery.ack()

    world.turn = turn
    return seen


def fails(times: int, failure: Failure, of: EvaluationRequest) -> Act:
    """An evaluator that fails so many times at one request."""
    left = iter(range(times))
    return lambda request: (
        failure if request.identity == of.identity and next(left, None) is not None else pretend(request)
    )


def waiting(world: ScriptedFarm) -> list[EvaluationResult]:
    """The results that are still in the queue."""
    found = []
    while (delivery := world.broker.receive(world.results, 0)) is not None:
        found.append(EvaluationResult.model_validate_json(delivery.body))
    return found


def test_outcomes_come_in_the_order_of_the_requests_and_are_observed_as_they_arrive(
    world: ScriptedFarm, history: History
) -> None:
    farm, _, _ = world.coordinator(history)
    observed: list[str] = []
    taken: list[EvaluationRequest] = []

    def turn() -> None:
        taken.extend(request_in(delivery) for delivery in world.take_all())
        if taken:
            world.answer(taken[-1], pretend(taken.pop()))  # the last one first

    world.turn = turn
    outcomes = farm.measure(REQUESTS, lambda request, outcome: observed.append(request.identity))
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
    farm.measure(REQUESTS, unheard)
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
    farm.measure(REQUESTS, unheard)
    assert connection.published == [4, 2]
    assert statements.count("commit") == 2


def test_a_failure_that_may_end_better_is_tried_again_at_the_end_of_the_row(
    world: ScriptedFarm, history: History
) -> None:
    farm, _, _ = world.coordinator(history)
    seen = acting(world, fails(RETRIES, TRANSIENT, of=REQUESTS[0]))
    assert farm.measure(REQUESTS, unheard) == [pretend(request) for request in REQUESTS]
    first = REQUESTS[0].identity
    assert [place for place, identity in enumerate(seen) if identity == first] == [0, len(REQUESTS), len(REQUESTS) + 1]


def test_a_failure_is_the_networks_own_when_its_retries_are_used_up(world: ScriptedFarm, history: History) -> None:
    farm, _, _ = world.coordinator(history)
    seen = acting(world, fails(RETRIES + 1, TRANSIENT, of=REQUESTS[0]))
    observed: list[Outcome] = []
    outcomes = farm.measure(REQUESTS, lambda request, outcome: observed.append(outcome))
    assert outcomes[0] == TRANSIENT == history.outcome(REQUESTS[0].identity)
    assert len(seen) == len(REQUESTS) + RETRIES
    assert observed.count(TRANSIENT) == 1


def test_a_failure_that_no_retry_helps_is_stored_at_once(world: ScriptedFarm, history: History) -> None:
    farm, _, _ = world.coordinator(history)
    seen = acting(world, fails(1, FINAL, of=REQUESTS[0]))
    assert farm.measure(REQUESTS, unheard)[0] == FINAL == history.outcome(REQUESTS[0].identity)
    assert len(seen) == len(REQUESTS)


@pytest.mark.parametrize(("failure", "attempts"), [(BAD, 1), (UNSUITABLE, RETRIES + 1)])
def test_a_bad_request_ends_the_search_when_no_evaluator_is_left_to_try_and_is_not_stored(
    world: ScriptedFarm, history: History, failure: Failure, attempts: int
) -> None:
    farm, connection, _ = world.coordinator(history)
    seen = acting(world, fails(10, failure, of=REQUESTS[0]))
    with pytest.raises(UserError, match=failure.reason):
        farm.measure(REQUESTS, unheard)
    connection.close()
    assert seen.count(REQUESTS[0].identity) == attempts
    assert history.outcome(REQUESTS[0].identity) is None
    assert waiting(world) == []  # or the next run would end with it too


def test_a_bad_request_that_another_evaluator_understands_is_measured(world: ScriptedFarm, history: History) -> None:
    farm, _, _ = world.coordinator(history)
    acting(world, fails(1, UNSUITABLE, of=REQUESTS[0]))
    assert farm.measure(REQUESTS, unheard) == [pretend(request) for request in REQUESTS]


def test_a_tolerant_batch_takes_a_bad_request_for_a_failure_and_the_next_run_tries_it_again(
    world: ScriptedFarm, history: History
) -> None:
    acting(world, fails(1, BAD, of=REQUESTS[0]))
    assert world.coordinator(history)[0].measure(REQUESTS, unheard, tolerant=True)[0] == BAD
    assert world.coordinator(history)[0].measure(REQUESTS, unheard, tolerant=True)[0] == pretend(REQUESTS[0])


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
        farm.measure(REQUESTS, unheard)
    connection.close()
    assert [isinstance(history.outcome(request.identity), Measurement) for request in REQUESTS[:4]] == [
        True,
        False,
        True,
        True,
    ]
    assert waiting(world) == []
    acting(world)
    assert world.coordinator(history)[0].measure(REQUESTS, unheard) == [pretend(request) for request in REQUESTS]


def test_an_answer_to_other_tasks_than_were_asked_ends_the_search_in_one_line_and_is_dropped(
    world: ScriptedFarm, history: History
) -> None:
    farm, connection, _ = world.coordinator(history)
    acting(world, lambda request: pretend(request).model_copy(update={"scores": ()}))
    with pytest.raises(UserError, match="evaluator test answered other tasks than it was asked"):
        farm.measure(REQUESTS[:1], unheard)
    connection.close()
    assert waiting(world) == []
    assert not history.knows(REQUESTS[0].identity)


def test_a_second_measurement_changes_nothing_and_is_counted(world: ScriptedFarm, history: History) -> None:
    farm, _, metrics = world.coordinator(history)

    def twice(request: EvaluationRequest) -> Outcome:
        world.answer(request, pretend(request))
        return pretend(request).model_copy(update={"worker": "another"})

    acting(world, twice)
    assert farm.measure(REQUESTS, unheard) == [pretend(request) for request in REQUESTS]
    assert value(metrics, "duplicate_results_total") == len(REQUESTS)


def test_a_second_measurement_that_comes_much_later_changes_nothing_and_is_counted(
    world: ScriptedFarm, history: History
) -> None:
    farm, _, metrics = world.coordinator(history)
    acting(world)
    farm.measure(REQUESTS[:2], unheard)
    world.answer(REQUESTS[0], pretend(REQUESTS[0]).model_copy(update={"worker": "another"}))
    farm.measure(REQUESTS[2:], unheard)
    assert history.outcome(REQUESTS[0].identity) == pretend(REQUESTS[0])
    assert value(metrics, "duplicate_results_total") == 1


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
    assert farm.measure(REQUESTS[:1], unheard) == [pretend(REQUESTS[0])]
    assert len(seen) == RETRIES + 1
    assert value(metrics, "duplicate_results_total") == RETRIES


def test_results_that_came_while_no_coordinator_was_there_are_used_before_anything_is_sent(
    world: ScriptedFarm, history: History
) -> None:
    for request in REQUESTS[:4]:
        world.answer(request, pretend(request))
    world.answer(PLAN.request(PLAN.space.largest(), "report"), FINAL)  # of no request of ours
    farm, _, metrics = world.coordinator(history)
    seen = acting(world)
    assert farm.measure(REQUESTS, unheard) == [pretend(request) for request in REQUESTS]
    assert seen == [request.identity for request in REQUESTS[4:]]
    assert value(metrics, "duplicate_results_total") == 1


@pytest.mark.parametrize("failure", [TRANSIENT, BAD, UNSUITABLE])
def test_a_failure_of_an_earlier_run_that_may_be_mended_is_not_believed(
    world: ScriptedFarm, history: History, failure: Failure
) -> None:
    world.answer(REQUESTS[0], failure)
    farm, _, _ = world.coordinator(history)
    seen = acting(world)
    assert farm.measure(REQUESTS, unheard) == [pretend(request) for request in REQUESTS]
    assert len(seen) == len(REQUESTS)


def test_a_result_that_comes_before_its_request_was_asked_for_is_kept_until_it_is(
    world: ScriptedFarm, history: History
) -> None:
    world.answer(REQUESTS[5], pretend(REQUESTS[5]))
    farm, _, _ = world.coordinator(history)
    seen = acting(world)
    farm.measure(REQUESTS[:2], unheard)
    assert farm.measure(REQUESTS[2:], unheard) == [pretend(request) for request in REQUESTS[2:]]
    assert REQUESTS[5].identity not in seen
    assert history.outcome(REQUESTS[5].identity) == pretend(REQUESTS[5])


def test_a_request_that_nobody_has_is_sent_again(world: ScriptedFarm, history: History) -> None:
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
    assert farm.measure(REQUESTS, unheard) == [pretend(request) for request in REQUESTS]
    assert value(metrics, "requests_resent_total") == 1
    assert seen.count(REQUESTS[0].identity) == 2 and len(seen) == len(REQUESTS) + 1


def test_a_request_that_kills_every_evaluator_becomes_a_failure_of_its_network(
    world: ScriptedFarm, history: History
) -> None:
    farm, _, metrics = world.coordinator(history)

    def turn() -> None:
        delivery = world.take()
        if delivery is None:
            return
        if request_in(delivery) == REQUESTS[0]:
            delivery.give_back()
        else:
            world.answer(request_in(delivery), pretend(request_in(delivery)))
            delivery.ack()

    world.turn = turn
    outcome = farm.measure(REQUESTS, unheard)[0]
    assert isinstance(outcome, Failure) and outcome.kind == "crashed"
    assert value(metrics, "dead_letters_total", reason="delivery_limit") == 1


def test_messages_that_are_no_results_are_set_aside_and_nothing_stops(world: ScriptedFarm, history: History) -> None:
    for body in (b"", b"{", b'{"version": 99}', b"\xff" * 100):
        world.broker.publish(world.results, body)
    farm, _, _ = world.coordinator(history)
    acting(world)
    assert farm.measure(REQUESTS, unheard) == [pretend(request) for request in REQUESTS]
    assert sum(world.broker.receive(DEAD_LETTERS, 0) is not None for _ in range(10)) == 4


def stop(world: ScriptedFarm) -> None:
    world.broker.publish(world.results, StopSearch(search=PLAN.settings.name).model_dump_json().encode())


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
        farm.measure(REQUESTS, unheard)
    connection.close()
    assert [history.knows(request.identity) for request in REQUESTS] == [True, True, False, False, False, False]
    assert world.broker.receive(world.results, 0) is None and world.take() is None


def test_a_wish_to_stop_that_nobody_was_there_to_hear_stops_no_later_run(world: ScriptedFarm, history: History) -> None:
    stop(world)
    world.now = time.time() + 1
    farm, _, _ = world.coordinator(history)
    acting(world)
    assert farm.measure(REQUESTS, unheard) == [pretend(request) for request in REQUESTS]


def test_results_that_a_full_disk_has_no_room_for_are_not_acknowledged_and_used_by_the_next_run(
    world: ScriptedFarm, history: History
) -> None:
    widths = islice(product((48, 32, 16), repeat=8), 60)
    requests = [PLAN.request(Architecture(layers=tuple(range(8)), mlp_widths=each), "search") for each in widths]
    farm, connection, _ = world.coordinator(history)
    seen = acting(world)
    farm.measure(requests[:2], unheard)
    (pages,) = history._connection.execute("pragma page_count").fetchone()
    history._connection.execute(f"pragma max_page_count = {pages}")  # SQLite's own full disk
    with pytest.raises(UserError, match=r"history\.sqlite: .*full; nothing stored so far is lost"):
        farm.measure(requests, unheard)
    connection.close()
    history._connection.execute("pragma max_page_count = 1000000")
    assert sum(history.knows(request.identity) for request in requests) == len(seen) - 1 < len(requests) - 2
    world.take_all()  # what was on its way
    again, _, _ = world.coordinator(history)
    assert again.measure(requests, unheard) == [pretend(request) for request in requests]
    assert len(seen) == len(set(seen)) == len(requests)


def test_batches_are_measured_side_by_side_and_finished_one_by_one(world: ScriptedFarm, history: History) -> None:
    farm, _, _ = world.coordinator(history)
    observed: list[str] = []

    def observe(request: EvaluationRequest, outcome: Outcome) -> None:
        observed.append(request.identity)

    seen = acting(world, fails(1, TRANSIENT, of=REQUESTS[0]))
    first, second = farm.begin(REQUESTS[:3], observe), farm.begin(REQUESTS[2:], observe)
    assert farm.finish(first) == [pretend(request) for request in REQUESTS[:3]]
    assert seen == [request.identity for request in [*REQUESTS, REQUESTS[0]]]
    assert farm.finish(second) == [pretend(request) for request in REQUESTS[2:]]
    assert observed.count(REQUESTS[2].identity) == 2  # it is in both


def test_the_evaluators_own_trouble_is_told_only_when_nothing_comes(world: ScriptedFarm, history: History) -> None:
    def check() -> None:
        raise ZeroDivisionError

    farm, _, _ = world.coordinator(history, EmbeddedEvaluator(check))
    acting(world)
    assert farm.measure(REQUESTS[:2], unheard)
    world.turn = lambda: None
    with pytest.raises(ZeroDivisionError):
        farm.measure(REQUESTS[2:], unheard)
