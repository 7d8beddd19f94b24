"""Networks that are asked for together: how many, and that each has an outcome of its own whatever happens to all."""

from collections.abc import Sequence
from itertools import islice, product

import pytest

from services.coordinator.evaluators import EmbeddedEvaluator
from services.coordinator.history import History
from shared.architecture import Architecture
from shared.broker import Delivery
from shared.events import Event, Events, InFlightChanged
from shared.failure_policy import DELIVERY_LIMIT, RETRIES, TOGETHER_SECONDS
from shared.messages import MOST_TOGETHER, EvaluationRequest, EvaluationResult, Failure, Measurement, Outcome
from tests.support.pretending import pretend
from tests.support.scripted import PLAN, ScriptedFarm, acting, requests_in, value
from tests.support.searches import SERVED, small_plan

MANY = [
    PLAN.request(Architecture(layers=tuple(range(8)), mlp_widths=(*[48] * 5, first, second, third)), "search")
    for first in (48, 32, 16)
    for second in (48, 32)
    for third in (48, 32)
]
POISON = MANY[7]


def timed(request: EvaluationRequest, seconds: float = 1.0) -> Measurement:
    """A measurement that says how long it took."""
    return pretend(request).model_copy(update={"seconds": {"score": seconds}})


def sizes(world: ScriptedFarm, seconds: float = 1.0) -> list[int]:
    """Let an evaluator answer one message whenever the coordinator waits; how many requests each had."""
    found: list[int] = []

    def turn() -> None:
        delivery = world.take()
        if delivery is not None:
            found.append(len(requests_in(delivery)))
            for request in requests_in(delivery):
                world.answer(request, timed(request, seconds))
            delivery.ack()

    world.turn = turn
    return found


def answer_all(world: ScriptedFarm, requests: Sequence[EvaluationRequest], failure: Failure) -> None:
    """An evaluator says one thing of all networks of a message, as its watchdog does."""
    for request in requests:
        result = EvaluationResult(
            identity=request.identity, search=request.search, outcome=failure, together=len(requests)
        )
        world.broker.publish(world.results, result.model_dump_json().encode())


def test_one_evaluator_gets_a_generation_in_a_few_messages_once_it_is_known_how_long_a_network_takes(
    world: ScriptedFarm, history: History
) -> None:
    farm, _, _ = world.coordinator(history, EmbeddedEvaluator(lambda: None))
    found = sizes(world)
    assert farm.measure(MANY[:1]) == [timed(MANY[0])]
    assert farm.measure(MANY) == [timed(request) for request in MANY]
    assert found[0] == 1 and sum(found) == len(MANY) == 12
    assert len(found) <= 4 and max(found[1:]) <= 6


@pytest.mark.parametrize("evaluators", [2, 3])
def test_what_waits_is_divided_among_all_evaluators(world: ScriptedFarm, history: History, evaluators: int) -> None:
    for number in range(evaluators):
        world.announce(f"host:{number}")
    farm, _, _ = world.coordinator(history)
    found = sizes(world)
    farm.measure(MANY[:1])
    found.clear()
    farm.measure(MANY)
    assert len(found) >= 2 * evaluators and max(found) <= 11 // (2 * evaluators) + 1


def test_where_no_evaluator_is_known_none_finds_what_many_could_have_divided(
    world: ScriptedFarm, history: History
) -> None:
    history.add_results([(MANY[0], timed(MANY[0]))])
    farm, _, _ = world.coordinator(history)
    found = sizes(world)
    assert farm.measure(MANY) == [timed(request) for request in MANY]
    assert found == [1] * (len(MANY) - 1)


def test_no_message_takes_longer_than_is_good(world: ScriptedFarm, history: History) -> None:
    farm, _, _ = world.coordinator(history, EmbeddedEvaluator(lambda: None))
    found = sizes(world, TOGETHER_SECONDS / 2.5)
    farm.measure(MANY)
    assert max(found) == 2
    found = sizes(world, 2 * TOGETHER_SECONDS)
    farm.measure([PLAN.request(request.architecture, "report") for request in MANY])
    assert max(found) == 1


def test_no_message_has_more_networks_than_may_be_in_one(world: ScriptedFarm, history: History) -> None:
    widths = islice(product((48, 32, 16), repeat=3), 24)
    requests = [
        PLAN.request(Architecture(layers=tuple(range(8)), mlp_widths=(*[48] * 5, *each)), "search") for each in widths
    ]
    farm, _, _ = world.coordinator(history, EmbeddedEvaluator(lambda: None))
    found = sizes(world)
    farm.measure(requests)
    assert max(found) == MOST_TOGETHER


def test_what_takes_a_machine_for_itself_is_asked_for_alone(world: ScriptedFarm, history: History) -> None:
    plan = small_plan(SERVED)
    assert plan.settings.serving is not None
    farm, _, _ = world.coordinator(history, EmbeddedEvaluator(lambda: None))
    found = sizes(world)
    for some in (MANY[:1], MANY[1:4]):
        farm.measure([plan.speeds_request(plan.settings.serving, [each.architecture]) for each in some])
    assert found == [1] * 4


def test_all_networks_count_as_in_flight(world: ScriptedFarm, history: History) -> None:
    in_flight: list[int] = []

    def note(event: Event) -> None:
        if isinstance(event, InFlightChanged):
            in_flight.append(event.requests)

    farm, _, metrics = world.coordinator(history, EmbeddedEvaluator(lambda: None), Events(note))
    sizes(world)
    farm.measure(MANY[:1])
    farm.measure(MANY)
    assert max(in_flight) == 11 and value(metrics, "requests_in_flight") == 0


@pytest.mark.parametrize("how", ["kills its evaluators", "takes too long"])
def test_a_network_that_does_harm_takes_no_other_down(world: ScriptedFarm, history: History, how: str) -> None:
    farm, _, metrics = world.coordinator(history, EmbeddedEvaluator(lambda: None))
    sizes(world)
    farm.measure(MANY[:1])
    alone: list[str] = []
    late = Failure(kind="timed_out", reason="not finished")

    def turn() -> None:
        delivery = world.take()
        if delivery is None:
            return
        requests = requests_in(delivery)
        if len(requests) == 1:
            alone.append(requests[0].identity)
        if POISON not in requests:
            for request in requests:
                world.answer(request, timed(request))
        elif how == "takes too long":
            answer_all(world, requests, late)
        else:
            delivery.requeue()
            return
        delivery.ack()

    world.turn = turn
    outcomes = dict(zip((each.identity for each in MANY), farm.measure(MANY), strict=True))
    failed = outcomes.pop(POISON.identity)
    assert isinstance(failed, Failure)
    assert failed.kind == ("timed_out" if how == "takes too long" else "dead_lettered")
    assert all(outcome == timed(each) for each in MANY if (outcome := outcomes.get(each.identity)) is not None)
    assert alone.count(POISON.identity) == (1 if how == "takes too long" else DELIVERY_LIMIT + 1)
    if how != "takes too long":
        assert value(metrics, "dead_letters_total", reason="delivery_limit") == 2


def test_a_dead_letter_that_comes_twice_or_of_an_earlier_run_makes_nobody_s_network_a_failure(
    world: ScriptedFarm, history: History
) -> None:
    dead = Failure(kind="dead_lettered", reason="evaluators were killed")
    answer_all(world, MANY[2:5], dead)  # nothing is asked for yet
    farm, _, _ = world.coordinator(history, EmbeddedEvaluator(lambda: None))
    sizes(world)
    farm.measure(MANY[:1])
    answering, seen = sizes(world), list[int]()
    inner = world.turn

    def turn() -> None:
        if not seen:
            delivery = world.take()
            assert delivery is not None and len(requests_in(delivery)) > 1
            seen.append(1)
            for _ in range(2):
                answer_all(world, requests_in(delivery), dead)
            delivery.ack()
        else:
            inner()

    world.turn = turn
    assert farm.measure(MANY) == [timed(request) for request in MANY]
    assert answering.count(1) >= 2


def test_a_message_that_is_lost_with_its_evaluator_is_answered_by_the_next_and_what_was_told_twice_counts_once(
    world: ScriptedFarm, history: History
) -> None:
    farm, _, metrics = world.coordinator(history, EmbeddedEvaluator(lambda: None))
    sizes(world)
    farm.measure(MANY[:1])
    killed: list[Delivery] = []

    def turn() -> None:
        delivery = world.take()
        if delivery is None:
            return
        requests = requests_in(delivery)
        if not killed and len(requests) > 2:
            killed.append(delivery)
            for request in requests[:2]:  # published before it was killed
                world.answer(request, timed(request))
            delivery.requeue()
            return
        for request in requests:
            world.answer(request, timed(request))
        delivery.ack()

    world.turn = turn
    assert farm.measure(MANY) == [timed(request) for request in MANY]
    assert killed and value(metrics, "duplicate_results_total") == 2


def test_requests_that_are_lost_are_sent_again_one_by_one(world: ScriptedFarm, history: History) -> None:
    world.announce("host:1")
    farm, _, metrics = world.coordinator(history)
    sizes(world)
    farm.measure(MANY[:1])
    lost: list[int] = []
    answering = sizes(world)
    inner = world.turn

    def turn() -> None:
        if not lost:
            delivery = world.take()
            assert delivery is not None
            lost.append(len(requests_in(delivery)))
            delivery.ack()
        else:
            inner()
        world.now += 10
        world.announce("host:1", idle_for=40)

    world.turn = turn
    assert farm.measure(MANY) == [timed(request) for request in MANY]
    assert value(metrics, "requests_resent_total") == lost[0] > 1
    assert answering.count(1) >= lost[0]


def test_a_failure_that_is_a_network_s_own_is_no_other_s(world: ScriptedFarm, history: History) -> None:
    farm, _, _ = world.coordinator(history, EmbeddedEvaluator(lambda: None))
    sizes(world)
    farm.measure(MANY[:1])
    infeasible = Failure(kind="infeasible", reason="no such network")

    def act(request: EvaluationRequest) -> Outcome:
        return infeasible if request == POISON else timed(request)

    seen = acting(world, act)
    outcomes = farm.measure(MANY)
    assert outcomes[MANY.index(POISON)] == infeasible
    assert seen.count(POISON.identity) == 1 and len(seen) == len(MANY) - 1


def test_a_network_that_breaks_an_evaluator_for_all_that_comes_with_it_is_the_only_one_that_fails(
    world: ScriptedFarm, history: History
) -> None:
    farm, _, _ = world.coordinator(history, EmbeddedEvaluator(lambda: None))
    sizes(world)
    farm.measure(MANY[:1])
    broken = Failure(kind="crashed", reason="the GPU's context is broken")
    together: list[int] = []

    def turn() -> None:
        delivery = world.take()
        if delivery is None:
            return
        requests = requests_in(delivery)
        if POISON in requests:
            together.append(len(requests))
        for request in requests:
            world.answer(request, broken if POISON in requests else timed(request))
        delivery.ack()

    world.turn = turn
    outcomes = farm.measure(MANY)
    assert together[0] > 1 and together[1:] == [1] * RETRIES
    assert outcomes == [broken if request == POISON else timed(request) for request in MANY]


def test_a_network_that_failed_in_an_earlier_run_is_asked_for_alone(world: ScriptedFarm, history: History) -> None:
    late = Failure(kind="timed_out", reason="not finished")
    history.add_results([(MANY[0], timed(MANY[0])), (POISON, late)])
    farm, _, _ = world.coordinator(history, EmbeddedEvaluator(lambda: None))
    found: list[tuple[EvaluationRequest, ...]] = []

    def turn() -> None:
        delivery = world.take()
        if delivery is not None:
            found.append(requests_in(delivery))
            for request in requests_in(delivery):
                world.answer(request, timed(request))
            delivery.ack()

    world.turn = turn
    assert farm.measure(MANY) == [timed(request) for request in MANY]
    assert (POISON,) in found and max(len(requests) for requests in found) > 1
