from pathlib import Path

import pytest

from services.coordinator.evaluators import EmbeddedEvaluator
from services.coordinator.history import History
from services.coordinator.plan import SearchPlan
from services.coordinator.search import measure_costs, run_search
from services.coordinator.strategies import make_strategy
from shared.errors import UserError
from shared.events import Events
from shared.messages import EvaluationRequest, Failure
from tests.support.scripted import ScriptedFarm, request_in
from tests.support.searches import after, pretend, search, small_plan

NARROW = {"space": {"mlp_widths": [48, 16]}}


def held_back(plan: SearchPlan, path: Path, patience: int) -> tuple[list[int], History]:
    """Search with the last network of each generation answered only when so many results have come since it was taken,
    or nothing else is left to do; the generation of each network in the order of the results."""
    farm, history = ScriptedFarm(plan), History.create_or_resume(path, plan.about())
    held: list[tuple[int, EvaluationRequest]] = []
    answered: list[int] = []

    def turn() -> None:
        generations = {one.identity: one.generation for one in history.candidates()}
        last = {one.generation: one.identity for one in history.candidates()}
        delivery = farm.take()
        if delivery is not None and request_in(delivery).identity in last.values():
            held.append((len(answered) + patience, request_in(delivery)))
        elif delivery is not None:
            farm.answer(request_in(delivery), pretend(request_in(delivery)))
            answered.append(generations[request_in(delivery).identity])
        if held and (delivery is None or held[0][0] <= len(answered)):
            request = held.pop(0)[1]
            farm.answer(request, pretend(request))
            answered.append(generations[request.identity])

    farm.turn = turn
    events = Events()
    dispatcher, _, _ = farm.coordinator(history, EmbeddedEvaluator(lambda: None), events)
    run_search(plan, measure_costs(plan, history, dispatcher, events), history, dispatcher, events)
    return answered, history


@pytest.mark.parametrize("overlap", [False, True])
def test_only_with_overlap_a_generation_is_measured_while_the_one_before_is_not_complete(
    tmp_path: Path, overlap: bool
) -> None:
    plan = small_plan(NARROW, strategy="random", overlap=overlap)
    answered, _ = held_back(plan, tmp_path / "h.sqlite", patience=4)
    assert len(answered) == 20
    assert (answered != sorted(answered)) == overlap
    assert 0 not in answered[answered.index(2) :]  # the one after the next waits


@pytest.mark.parametrize("strategy", ["bayesian", "linas", "nsga2"])
def test_the_order_of_the_results_changes_nothing(tmp_path: Path, strategy: str) -> None:
    plan = small_plan(NARROW, strategy=strategy, overlap=True)
    histories = [held_back(plan, tmp_path / f"{patience}.sqlite", patience)[1] for patience in (1, 5)]
    assert histories[0].candidates() == histories[1].candidates()
    assert histories[0].generations() == histories[1].generations()


def test_a_strategy_knows_all_generations_but_the_one_in_work(tmp_path: Path) -> None:
    plan = small_plan(NARROW, strategy="nsga2", overlap=True)
    _, _, observer, history = search(plan, tmp_path / "h.sqlite")
    costs = measure_costs(plan, history, None, Events())  # type: ignore[arg-type]  # nothing is to be measured
    strategy = make_strategy(costs, plan.settings.search)
    asked = [strategy.ask(8), strategy.ask(8)]
    assert [[c.architecture for c in history.generation(number)] for number in (0, 1)] == asked
    assert [row.evaluations for row in observer.generations] == [8, 16, 20]


@pytest.mark.parametrize("strategy", ["bayesian", "linas", "nsga2", "random"])
@pytest.mark.parametrize("answered", [0, 5, 8, 12, 17])
def test_an_interrupted_search_with_overlap_ends_like_an_undisturbed_one(
    tmp_path: Path, strategy: str, answered: int
) -> None:
    plan = small_plan(NARROW, strategy=strategy, overlap=True)
    undisturbed, _, _, first = search(plan, tmp_path / "undisturbed.sqlite")
    end = Failure(kind="bad_request", reason="the end")
    with pytest.raises(UserError, match="the end"):
        search(plan, tmp_path / "h.sqlite", after(answered, lambda request: end))
    resumed, seen, _, second = search(plan, tmp_path / "h.sqlite")
    assert len(seen) == 20 - answered
    assert resumed == undisturbed
    assert second.candidates() == first.candidates()
    assert second.generations() == first.generations()


def test_overlap_is_the_searchs_own_but_histories_from_before_there_was_a_choice_go_on(tmp_path: Path) -> None:
    plan, path = small_plan(), tmp_path / "h.sqlite"
    assert "overlap" not in plan.recipe["search"]
    History.create_or_resume(path, plan.about()).close()
    with pytest.raises(UserError, match="belongs to another search"):
        History.create_or_resume(path, small_plan(overlap=True).about())
    assert small_plan(overlap=True).recipe["search"]["overlap"]


def test_what_was_recorded_of_another_machine_is_not_asked_for_again(tmp_path: Path) -> None:
    """Another machine may have rounded another way, and asked for what is asked for only later here."""
    plan = small_plan(NARROW, strategy="random", overlap=True)
    _, _, _, usual = search(plan, tmp_path / "usual.sqlite")
    history = History.create_or_resume(tmp_path / "h.sqlite", plan.about())
    second = [candidate.architecture for candidate in usual.generation(1)]
    history.add_candidates(0, [(plan.request(network, "search"), None) for network in second])
    history.close()
    _, seen, observer, history = search(plan, tmp_path / "h.sqlite")
    assert len(seen) == len(set(seen)) == len(history.candidates()) == observer.generations[-1].evaluations == 20
