"""The state of a search after each generation, by the strategy that estimates accuracies."""

from pathlib import Path

import pytest

from services.coordinator.pareto import hypervolume
from services.coordinator.plan import plan_of
from services.coordinator.predictor_quality import kendall_tau, mean_absolute_error
from services.coordinator.results import (
    as_chosen_by,
    best_networks,
    cost_model,
    evaluated_so_far,
    front,
    measured_networks,
    reference_point,
)
from shared.messages import EvaluationRequest, Measurement
from tests.support.pretending import pretend
from tests.support.searches import search, small_plan


def test_the_front_is_that_of_estimated_accuracies_and_so_is_its_hypervolume(tmp_path: Path) -> None:
    plan = small_plan(strategy="bayesian", evaluations=60, population=12)
    chosen, _, observer, history = search(plan, tmp_path / "h.sqlite")
    estimated, measured = evaluated_so_far(plan, history), measured_networks(plan, history)
    assert [one.accuracy for one in estimated] != [one.accuracy for one in measured]
    assert chosen == front(estimated) == front(evaluated_so_far(plan_of(history, plan.settings), history))
    costs = cost_model(plan, history)
    first = measured[: len(history.generation(0))]
    reference = reference_point(plan, costs, first)
    assert reference.corner == (1.001, min(one.accuracy or 0.0 for one in as_chosen_by(plan, first)))
    best = best_networks(estimated)
    row = observer.generations[-1]
    assert row.estimated and row.hypervolume == pytest.approx(
        hypervolume([one.costs for one in best], [one.accuracy or 0.0 for one in best], reference)
    )


def test_other_strategies_choose_by_what_was_measured_and_keep_their_reference_point(tmp_path: Path) -> None:
    plan = small_plan(strategy="linas", evaluations=30)
    chosen, _, observer, history = search(plan, tmp_path / "h.sqlite")
    measured = measured_networks(plan, history)
    assert chosen == front(measured) and evaluated_so_far(plan, history) == measured
    assert not observer.generations[-1].estimated
    assert reference_point(plan, cost_model(plan, history), measured).corner == (1.1, 0.0)
    assert plan.recipe["reference_point"] == [1.1, 0.0]


def test_networks_drawn_at_random_in_all_generations_judge_the_predictor(tmp_path: Path) -> None:
    plan = small_plan(strategy="bayesian", evaluations=60, population=12)
    _, _, observer, history = search(plan, tmp_path / "h.sqlite")
    first, *others = observer.generations
    assert first.on_drawn is None
    assert [row.on_drawn.networks for row in others if row.on_drawn] == [2, 4, 6, 8]
    accuracies = {one.architecture: one.accuracy or 0.0 for one in measured_networks(plan, history)}
    # A generation's last two are those that were drawn.
    drawn = [one for row in others for one in history.generation(row.generation)[-2:]]
    predicted = [one.predicted or 0.0 for one in drawn]
    measured = [accuracies[one.architecture] for one in drawn]
    found = others[-1].on_drawn
    assert found is not None
    assert found.mean_absolute_error == pytest.approx(mean_absolute_error(predicted, measured))
    assert found.kendall_tau == kendall_tau(predicted, measured)
    assert found.size_tau == kendall_tau([plan.space.parameters(one.architecture) for one in drawn], measured)


def test_a_metric_with_margins_of_its_own_is_learnt_from_by_these(tmp_path: Path) -> None:
    task = {"name": "plain_facts", "metric": "acc_norm", "search": {"items": 40}, "report": {"items": 60}}
    plan = small_plan({"tasks": [task]}, strategy="bayesian", evaluations=10)

    def answer(request: EvaluationRequest) -> Measurement:
        measurement = pretend(request)
        (scores,) = measurement.scores
        own = {"metrics": {"acc_norm": scores.metrics["acc"]}, "margins_by_metric": {"acc_norm": (2.0,) * 40}}
        return measurement.model_copy(update={"scores": (scores.model_copy(update=own),)})

    _, _, _, history = search(plan, tmp_path / "h.sqlite", answer)
    (sureness,) = {one.sureness for one in measured_networks(plan, history)}
    assert sureness == pytest.approx((0.880797,) * 40)


def test_each_network_is_measured_on_one_slice_of_the_items_always_the_same(tmp_path: Path) -> None:
    plan = small_plan(strategy="bayesian", evaluations=60, population=12, slices=4)
    chosen, seen, observer, history = search(plan, tmp_path / "h.sqlite")
    assert len(set(seen)) == len(history.candidates()) == 60
    requests = [plan.request(candidate.architecture, "search") for candidate in history.candidates()]
    assert {request.identity for request in requests} == set(seen)
    ranges = [(request.spec.tasks[0].start, request.spec.tasks[0].stop) for request in requests]
    assert set(ranges) == {(0, 10), (10, 20), (20, 30), (30, 40)} and all(ranges.count(one) > 5 for one in set(ranges))
    assert plan.request(chosen[0], "report") == small_plan().request(chosen[0], "report")
    assert len({one.items for one in measured_networks(plan, history)}) == 4
    assert chosen == front(evaluated_so_far(plan, history))
    assert observer.generations[-1].on_drawn is not None
