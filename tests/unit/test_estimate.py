"""What a search is said to cost: of what is still to be done."""

from pathlib import Path

import pytest

from services.application.estimate import INT8_COST, Work, assumed_tokens, estimate, whole_work, work_left
from services.coordinator.budget import networks_to_measure
from services.coordinator.history import History
from shared.drop_orders import DIVERGENCE_TOKENS
from shared.errors import UserError
from shared.messages import EvaluationRequest, Failure
from shared.network.sizes import outer_parameters, parameters
from tests.support.searches import REMEASURED, SERVED, SHAPE, after, search, small_plan

RATE = 1e6


def seconds(changes: dict[str, object] | None = None) -> tuple[float, float, float]:
    plan = small_plan(changes)
    tokens = assumed_tokens(plan.settings)
    said = estimate(plan.settings, plan.space, RATE, *tokens, whole_work(plan.settings, plan.space))
    assert said.total == said.training + said.search + said.report
    return said.training, said.search, said.report


def test_int8_and_random_networks_add_to_the_report_and_so_do_speeds() -> None:
    training, searched, report = seconds()
    of_one = report / (6 + 2)  # six of the front, the dense and the base network
    assert seconds({"remeasure_int8": True}) == pytest.approx((training, searched, (7 + 1 + 7 * INT8_COST) * of_one))
    assert seconds({"reporting": {"random": True}}) == pytest.approx((training, searched, (2 * 6 + 2) * of_one))
    assert seconds({"reporting": {"networks": 3}}) == pytest.approx((training, searched, (3 + 2) * of_one))
    again = seconds(REMEASURED)
    assert again[0] == training and again[1] > searched and again[2] > 15 * of_one


def test_finding_the_layers_to_drop_by_divergence_takes_its_time() -> None:
    layers = parameters(SHAPE) - outer_parameters(SHAPE)
    of_one_tried = DIVERGENCE_TOKENS * (layers / 2 + SHAPE.vocab_size * SHAPE.outputs) / RATE
    space: dict[str, object] = {"depths": [8, 6], "mlp_widths": [48, 24]}
    usual, found, both = (
        seconds({"space": {**space, "depth_rule": rule}})
        for rule in ("importance", "divergence", ["importance", "divergence"])
    )
    assert found == both and found[1:] == usual[1:] and found[0] > usual[0]
    assert found[0] - usual[0] == pytest.approx((6 + 5) * of_one_tried)
    none_dropped = seconds({"space": {**space, "depths": [8], "depth_rule": "divergence"}})  # the others are ranked
    assert none_dropped[0] - seconds({"space": {**space, "depths": [8]}})[0] == pytest.approx(6 * of_one_tried)


def test_a_network_that_is_measured_on_a_slice_of_the_items_takes_as_much_less() -> None:
    whole, sliced = (
        seconds({"search": {"strategy": "bayesian"}}),
        seconds({"search": {"strategy": "bayesian", "slices": 2}}),
    )
    assert sliced == pytest.approx((whole[0], whole[1] / 2, whole[2]))


def test_a_search_that_has_not_begun_has_all_its_work_left(tmp_path: Path) -> None:
    for changes in (None, SERVED, REMEASURED):
        plan = small_plan(changes)
        path = tmp_path / f"{len(plan.settings.objectives)}-{plan.settings.remeasure_int8}.sqlite"
        assert work_left(plan, History.create_or_resume(path, plan.about())) == whole_work(plan.settings, plan.space)


def test_what_is_measured_is_not_counted_again(tmp_path: Path) -> None:
    plan = small_plan(REMEASURED)

    def die(request: EvaluationRequest) -> Failure:
        return Failure(kind="bad_request", reason="the end")

    with pytest.raises(UserError, match="the end"):
        search(plan, tmp_path / "h.sqlite", after(1 + 11, die))
    whole = whole_work(plan.settings, plan.space)
    history = History.create_or_resume(tmp_path / "h.sqlite", plan.about())
    assert work_left(plan, history) == Work(9, whole.reported, 0, whole.speed_runs, whole.int8)
    chosen, _, _, history = search(plan, tmp_path / "h.sqlite")
    left = work_left(plan, history)
    networks = len(set(chosen) | {plan.space.largest()})
    # On the report items the front, dense and base, the first two in INT8 too; and both controls on the search items.
    searched_controls = 1 + (plan.space.largest() not in {one.architecture for one in history.candidates()})
    assert left == Work(0, 2 * networks + 1 + searched_controls, 0, 2 * networks * (1 + 3), networks)
    _, _, _, history = search(plan, tmp_path / "h.sqlite", report=True)
    assert work_left(plan, history) == Work(0, 0, 0, 0)
    raised = small_plan(REMEASURED, evaluations=30)
    assert work_left(raised, history).searched == 10


def test_a_space_smaller_than_the_budget_is_all_there_is_to_search(tmp_path: Path) -> None:
    plan = small_plan({"space": {"depths": [8], "mlp_widths": [48]}})
    history = History.create_or_resume(tmp_path / "h.sqlite", plan.about())
    assert work_left(plan, history).searched == 1


def test_a_budget_larger_than_the_space_is_as_large_as_the_space_and_what_was_asked_for_is_not_forgotten() -> None:
    space = {"depths": [8], "mlp_widths": [48, 32], "depth_rule": "first"}
    plan = small_plan({"space": space}, evaluations=1000)
    settings = plan.settings.search
    assert plan.space.networks == 2**8 == networks_to_measure(settings, plan.space)
    assert whole_work(plan.settings, plan.space).searched == 2**8
    lowered = small_plan({"space": space}, evaluations=10).settings.search
    assert [networks_to_measure(lowered, plan.space, asked) for asked in (0, 10, 30)] == [10, 10, 30]
