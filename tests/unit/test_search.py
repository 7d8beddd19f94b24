"""The search: what it asks for, in which order, and how it goes on."""

from pathlib import Path

import numpy as np
import pytest

from services.coordinator.plan import plan_of
from services.coordinator.predictor_quality import kendall_tau
from services.coordinator.results import evaluated_so_far, front
from shared.architecture import dense
from shared.errors import UserError
from shared.generation import GenerationRow
from shared.messages import EvaluationRequest, Failure, Measurement, Workload
from tests.support.searches import (
    REMEASURED,
    SERVED,
    SHAPE,
    after,
    only,
    pretend,
    refused,
    search,
    small_plan,
)


def test_the_budget_is_spent_on_different_networks_and_each_is_measured_once(tmp_path: Path) -> None:
    plan = small_plan()
    chosen, seen, observer, history = search(plan, tmp_path / "h.sqlite")
    assert len(seen) == len(set(seen)) == len(history.candidates()) == 20
    assert [row.evaluations for row in observer.generations] == [8, 16, 20]
    assert all(row.predictor for row in observer.generations[1:])
    assert observer.generations == history.generations()
    assert chosen == front(evaluated_so_far(plan_of(history, plan.settings), history))


def test_the_predictor_is_judged_beside_size_on_networks_it_had_not_seen(tmp_path: Path) -> None:
    plan = small_plan(evaluations=40)
    _, _, observer, history = search(plan, tmp_path / "h.sqlite")
    first, *others = observer.generations
    assert (first.size_tau, first.partial_tau, first.size_error) == (None, None, None)
    accuracies = {one.architecture: one.accuracy or 0.0 for one in evaluated_so_far(plan, history)}
    for row in others:
        batch = [candidate.architecture for candidate in history.generation(row.generation)]
        earlier = [candidate.architecture for candidate in history.candidates()][: row.evaluations - len(batch)]
        sizes = [plan.space.parameters(one) for one in batch]
        assert row.size_tau == kendall_tau(sizes, [accuracies[one] for one in batch])
        slope, start = np.polyfit([plan.space.parameters(one) for one in earlier], [accuracies[o] for o in earlier], 1)
        errors = [abs(start + slope * size - accuracies[one]) for size, one in zip(sizes, batch, strict=True)]
        assert row.size_error == pytest.approx(sum(errors) / len(errors))
        assert row.partial_tau is None or -1 <= row.partial_tau <= 1


def test_generations_of_earlier_releases_load() -> None:
    row = GenerationRow.model_validate_json(
        '{"generation":1,"evaluations":12,"hypervolume":0.1,"predictor":"ridge","kendall_tau":0.9,'
        '"mean_absolute_error":0.02}'
    )
    assert (row.size_tau, row.partial_tau, row.size_error) == (None, None, None)


def test_hypervolume_never_falls(tmp_path: Path) -> None:
    volumes = [row.hypervolume for row in search(small_plan(evaluations=60), tmp_path / "h.sqlite")[2].generations]
    assert volumes == sorted(volumes)
    assert volumes[-1] > volumes[0]


@pytest.mark.parametrize("strategy", ["bayesian", "linas", "nsga2", "random"])
@pytest.mark.parametrize("answered", [0, 3, 8, 13])
def test_an_interrupted_search_ends_like_an_undisturbed_one(tmp_path: Path, strategy: str, answered: int) -> None:
    plan = small_plan(strategy=strategy)
    undisturbed, _, _, first = search(plan, tmp_path / "undisturbed.sqlite")

    def die(request: EvaluationRequest) -> Failure:
        return Failure(kind="bad_request", reason="the end")

    with pytest.raises(UserError, match="the end"):
        search(plan, tmp_path / "h.sqlite", after(answered, die))
    resumed, seen, _, second = search(plan, tmp_path / "h.sqlite")
    assert len(seen) == 20 - answered
    assert resumed == undisturbed
    assert second.candidates() == first.candidates()
    assert second.generations() == first.generations()


def test_a_raised_budget_goes_on_from_what_is_there(tmp_path: Path) -> None:
    _, before, _, _ = search(small_plan(evaluations=12), tmp_path / "h.sqlite")
    _, added, _, history = search(small_plan(evaluations=30), tmp_path / "h.sqlite")
    assert (len(before), len(added), len(history.candidates())) == (12, 18, 30)
    assert not set(before) & set(added)


def test_a_metric_that_a_task_does_not_have_is_named_with_those_that_it_has(tmp_path: Path) -> None:
    task = {"name": "plain_facts", "metric": "exact_match", "search": {"items": 40}, "report": {"items": 60}}
    plan = small_plan({"tasks": [task]})
    with pytest.raises(UserError, match=r"tasks\.plain_facts\.metric: .* has no 'exact_match' for it, but acc;"):
        search(plan, tmp_path / "h.sqlite")


def test_what_is_claimed_is_fixed_when_a_search_begins_and_histories_that_say_nothing_of_it_go_on(
    tmp_path: Path,
) -> None:
    plan = small_plan(evaluations=8)
    assert "reporting" not in plan.recipe
    search(plan, tmp_path / "h.sqlite")
    with pytest.raises(UserError, match=r"belongs to another search \(reporting was not set, now \{'margin': 5"):
        search(small_plan({"reporting": {"margin": 5}}, evaluations=8), tmp_path / "h.sqlite")
    # To look at more networks is no other claim; how many were looked at is counted.
    search(small_plan({"reporting": {"networks": 9, "random": True}}, evaluations=8), tmp_path / "h.sqlite")


def test_a_lowered_budget_forgets_nothing(tmp_path: Path) -> None:
    before, _, _, _ = search(small_plan(), tmp_path / "h.sqlite")
    after_, seen, _, _ = search(small_plan(evaluations=9), tmp_path / "h.sqlite")
    assert (after_, seen) == (before, [])


def test_measurements_on_other_items_are_refused_before_they_are_stored(tmp_path: Path) -> None:
    def changed(request: EvaluationRequest) -> Measurement:
        usual = pretend(request)
        scores = tuple(score.model_copy(update={"items_digest": "changed"}) for score in usual.scores)
        return usual.model_copy(update={"scores": scores})

    with pytest.raises(UserError, match=r"tasks\.plain_facts: its data or prompts differ"):
        search(small_plan(), tmp_path / "h.sqlite", after(5, changed))
    assert len(search(small_plan(), tmp_path / "h.sqlite")[1]) == 15


def test_the_cost_table_is_measured_first_once_and_a_resumed_search_uses_it(tmp_path: Path) -> None:
    plan = small_plan(SERVED)
    assert plan.settings.serving is not None
    table = plan.costs_request(plan.settings.serving)
    undisturbed, seen, _, first = search(plan, tmp_path / "undisturbed.sqlite", report=True)
    assert seen[0] == table.identity and seen.count(table.identity) == 1
    with pytest.raises(UserError, match="no engine here"):
        search(plan, tmp_path / "h.sqlite", after(11, refused))
    resumed, seen, _, second = search(plan, tmp_path / "h.sqlite", report=True)
    assert table.identity not in seen
    assert resumed == undisturbed
    assert second.generations() == first.generations()
    assert second.candidates() == first.candidates()


def test_the_cost_table_covers_all_that_a_search_or_its_report_times() -> None:
    plan = small_plan({**REMEASURED, "space": {"mlp_widths": [32, 16]}})
    assert plan.settings.serving is not None
    request = plan.costs_request(plan.settings.serving)
    assert request.architecture == dense(SHAPE)
    assert request.spec.tasks == () and request.spec.costs is not None
    assert request.spec.costs.mlp_widths == (48, 32, 16)
    assert request.spec.costs.quantizations == ("none", "int8")
    assert request.spec.costs.workload == Workload()


def test_a_cost_table_that_cant_be_measured_ends_the_search_and_is_tried_again_by_the_next_run(tmp_path: Path) -> None:
    plan = small_plan(SERVED)
    for answer in (refused, only(lambda request: request.spec.costs is not None)):
        with pytest.raises(UserError, match=r"serving: the cost table .* engine torch \(no engine here\); fix that"):
            search(plan, tmp_path / "h.sqlite", answer)
    assert len(search(plan, tmp_path / "h.sqlite")[1]) == 21


def test_no_network_of_a_front_over_several_costs_is_dominated(tmp_path: Path) -> None:
    plan = small_plan(SERVED, evaluations=40)
    chosen, _, observer, history = search(plan, tmp_path / "h.sqlite")
    told = evaluated_so_far(plan_of(history, plan.settings), history)
    places = {one.architecture: (*one.costs, -(one.accuracy or 0.0)) for one in told}
    assert len(next(iter(places.values()))) == 3
    assert [places[one][0] for one in chosen] == sorted(places[one][0] for one in chosen)
    for one in chosen:
        mine = places[one]
        assert not any(
            other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in places.values()
        )
    volumes = [row.hypervolume for row in observer.generations]
    assert volumes == sorted(volumes) and volumes[0] > 0


def test_int8_is_on_the_front_where_it_costs_no_accuracy(tmp_path: Path) -> None:
    plan = small_plan({"objectives": ["bytes"], "space": {"quantization": ["none", "int8"]}}, evaluations=40)
    chosen, _, _, _ = search(plan, tmp_path / "h.sqlite")
    assert sum(network.quantization == "int8" for network in chosen) > len(chosen) / 2
