from collections.abc import Callable
from pathlib import Path

import pytest

from services.coordinator.front import ReportedNetworks, measure_front
from services.coordinator.history import History
from services.coordinator.outputs import write_report
from services.coordinator.plan import SearchPlan, plan_of
from services.coordinator.results import evaluated_so_far, front
from services.coordinator.search import measure_costs, run_search
from shared.architecture import Architecture
from shared.errors import UserError
from shared.messages import EvaluationRequest, Failure, Measurement
from shared.space import dense
from tests.support.searches import SHAPE, Answer, Silent, pretend, pretending_farm, small_plan


def search(
    plan: SearchPlan, path: Path, answer: Answer = pretend, report: bool = False
) -> tuple[list[Architecture], list[str], Silent, History]:
    history, observer = History.create_or_resume(path, plan.about()), Silent()
    with pretending_farm(plan, history, answer) as (farm, seen):
        chosen = run_search(plan, measure_costs(plan, history, farm), history, farm, observer)
        if report:
            measure_front(ReportedNetworks(plan, chosen), farm, lambda request, outcome: None)
    return chosen, seen, observer, history


def after(count: int, then: Callable[[EvaluationRequest], Measurement | Failure]) -> Answer:
    """Answer `count` requests as usual, and the others another way."""
    answered = iter(range(10**6))
    return lambda request: pretend(request) if next(answered) < count else then(request)


def test_the_budget_is_spent_on_different_networks_and_each_is_measured_once(tmp_path: Path) -> None:
    chosen, seen, observer, history = search(small_plan(), tmp_path / "h.sqlite")
    assert len(seen) == len(set(seen)) == len(history.candidates()) == 20
    assert [row.evaluations for row in observer.generations] == [8, 16, 20]
    assert all(row.predictor for row in observer.generations[1:])
    assert observer.generations == history.generations()
    assert chosen == front(evaluated_so_far(plan_of(history, 20), history))


def test_hypervolume_never_falls(tmp_path: Path) -> None:
    volumes = [row.hypervolume for row in search(small_plan(evaluations=60), tmp_path / "h.sqlite")[2].generations]
    assert volumes == sorted(volumes)
    assert volumes[-1] > volumes[0]


@pytest.mark.parametrize("strategy", ["linas", "nsga2", "random"])
@pytest.mark.parametrize("answered", [0, 3, 8, 13])
def test_an_interrupted_search_ends_like_an_undisturbed_one(tmp_path: Path, strategy: str, answered: int) -> None:
    plan = small_plan(strategy=strategy)
    undisturbed, _, _, first = search(plan, tmp_path / "undisturbed.sqlite")

    def die(request: EvaluationRequest) -> Failure:
        return Failure(kind="bad_request", reason="the end", retry_may_help=False)

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


def test_a_lowered_budget_forgets_nothing(tmp_path: Path) -> None:
    before, _, _, _ = search(small_plan(), tmp_path / "h.sqlite")
    after_, seen, _, _ = search(small_plan(evaluations=9), tmp_path / "h.sqlite")
    assert (after_, seen) == (before, [])


def test_a_failure_that_may_end_better_is_tried_again_by_the_next_run(tmp_path: Path) -> None:
    def short_of_memory(request: EvaluationRequest) -> Failure:
        return Failure(kind="out_of_memory", reason="too little", retry_may_help=True)

    search(small_plan(evaluations=8), tmp_path / "h.sqlite", after(7, short_of_memory))
    _, seen, _, history = search(small_plan(evaluations=8), tmp_path / "h.sqlite")
    assert seen == [history.candidates()[7].identity]
    assert len(evaluated_so_far(small_plan(evaluations=8), history)) == 8


def test_failed_networks_are_kept_with_their_reason_and_the_search_goes_on(tmp_path: Path) -> None:
    def refuse_shallow(request: EvaluationRequest) -> Measurement | Failure:
        if request.architecture.depth == 6 and request.spec.tasks[0].split == "validation":
            return Failure(kind="out_of_memory", reason="too little", retry_may_help=True)
        return pretend(request)

    plan = small_plan()
    chosen, _, _, history = search(plan, tmp_path / "h.sqlite", refuse_shallow, report=True)
    assert len([c for c in history.candidates() if c.architecture.depth == 6]) > 0
    assert all(architecture.depth > 6 for architecture in chosen)
    content = write_report(plan, history, chosen, tmp_path)
    assert len(content.failures) == len([c for c in history.candidates() if c.architecture.depth == 6])
    assert all("too little" in failure for failure in content.failures)
    assert len(content.evaluated) + len(content.failures) == 20


def test_a_search_in_which_everything_fails_stops_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="every network failed, the first with: broken"):
        search(
            small_plan(),
            tmp_path / "h.sqlite",
            lambda _: Failure(kind="crashed", reason="broken", retry_may_help=False),
        )


def test_measurements_on_other_items_are_refused_before_they_are_stored(tmp_path: Path) -> None:
    def changed(request: EvaluationRequest) -> Measurement:
        usual = pretend(request)
        scores = tuple(score.model_copy(update={"items_digest": "changed"}) for score in usual.scores)
        return usual.model_copy(update={"scores": scores})

    with pytest.raises(UserError, match=r"tasks\.plain_facts: its data or prompts differ"):
        search(small_plan(), tmp_path / "h.sqlite", after(5, changed))
    assert len(search(small_plan(), tmp_path / "h.sqlite")[1]) == 15


def test_the_front_is_measured_once_on_the_report_items_and_compared_with_both_controls(tmp_path: Path) -> None:
    plan = small_plan()
    chosen, seen, _, history = search(plan, tmp_path / "h.sqlite", report=True)
    content = write_report(plan, history, chosen, tmp_path)
    assert [row.architecture for row in content.front] == chosen[::-1]
    searched = {plan.request(dense(SHAPE), "search").identity, plan.base_request("search").identity}
    reported = {plan.request(network, "report").identity for network in [dense(SHAPE), *chosen]}
    assert set(seen[20:]) == (searched | reported | {plan.base_request("report").identity}) - set(seen[:20])
    assert content.dense.versus_dense is None and content.dense.versus_base is not None
    for row in content.front:
        assert row.interval[0] < row.report_accuracy < row.interval[1]
        assert row.versus_base is not None and 0 <= row.versus_base.p_value <= 1
        assert row.versus_base.difference == pytest.approx(row.report_accuracy - content.base.report_accuracy)
        assert row.ratio == pytest.approx(content.dense.parameters / row.parameters)
    assert {path.name for path in tmp_path.iterdir()} >= {"report.html", "front.svg", "front.json"}
    for row in content.front:
        assert (
            Architecture.model_validate_json((tmp_path / "front" / f"{row.name}.json").read_text()) == row.architecture
        )


def test_a_front_that_was_not_measured_on_the_report_items_gives_no_report(tmp_path: Path) -> None:
    plan = small_plan()
    chosen, _, _, history = search(plan, tmp_path / "h.sqlite")
    with pytest.raises(UserError, match="not measured on the report items yet"):
        write_report(plan, history, chosen, tmp_path)
