import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.coordinator.generation import GenerationRow
from services.coordinator.history import History
from services.coordinator.outputs import write_report
from services.coordinator.paired import holm
from services.coordinator.plan import plan_of
from services.coordinator.results import evaluated_so_far, front
from services.coordinator.statistics import kendall_tau
from shared.architecture import Architecture
from shared.errors import UserError
from shared.messages import EvaluationRequest, Failure, FailureKind, Measurement, SpeedSpec, Workload
from shared.settings import read_search_file
from shared.space import dense, weight_bytes
from tests.support.searches import REMEASURED, SERVED, SHAPE, Answer, after, pretend, search, small_plan

FIXTURES = Path(__file__).parents[1] / "fixtures"


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
    with pytest.raises(UserError, match=r"every network failed, the first with .*broken"):
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


RANDOM = {"reporting": {"networks": 3, "random": True}}


def test_the_report_spends_its_items_on_a_few_networks_spread_over_the_front(tmp_path: Path) -> None:
    plan = small_plan({"reporting": {"networks": 3}}, evaluations=60)
    chosen, seen, _, history = search(plan, tmp_path / "h.sqlite", report=True)
    assert len(chosen) > 4
    content = write_report(plan, history, chosen, tmp_path)
    assert [row.architecture for row in content.front] == chosen[::-1]
    largest, middle, smallest = content.reported
    assert (largest, smallest) == (content.front[0], content.front[-1])
    half = (largest.parameters + smallest.parameters) / 2
    assert abs(middle.parameters - half) == min(abs(row.parameters - half) for row in content.front[1:-1])
    asked = {row.architecture for row in content.reported} | {dense(SHAPE)}
    reported = {plan.request(one, "report").identity for one in (*chosen, dense(SHAPE))}
    assert reported & set(seen) == {plan.request(one, "report").identity for one in asked}
    for row in content.front:
        assert (row.report_accuracy is None) == (row.versus_dense is None) == (row not in content.reported)
        assert row.search_accuracy is not None and (tmp_path / "front" / f"{row.name}.json").is_file()
    shown = json.loads((tmp_path / "front.json").read_text())
    assert [row["name"] for row in shown["front"]] == [f"N{number}" for number in range(1, len(chosen) + 1)]


@pytest.mark.parametrize("name", ["plain", "served"])
def test_runs_of_earlier_releases_are_reported_with_what_they_measured(tmp_path: Path, name: str) -> None:
    shutil.copytree(FIXTURES / "format-2" / "runs" / name, tmp_path / name)
    former = json.loads((tmp_path / name / "front.json").read_text())
    with closing(History.read(tmp_path / name / "history.sqlite")) as history:
        plan = plan_of(history, read_search_file(tmp_path / name / "search.yaml"))
        content = write_report(plan, history, front(evaluated_so_far(plan, history)), tmp_path / name)
    assert [row.report_accuracy for row in content.front] == [row["report_accuracy"] for row in former["front"]]
    assert [row.interval for row in content.front] == [tuple(row["interval"]) for row in former["front"]]
    for row, was in zip(content.front, former["front"], strict=True):
        assert row.versus_dense is not None and row.versus_dense.p_value == was["versus_dense"]["p_value"]
    assert content.random == () and content.failures == () and content.fronts == 1
    assert content.looked_at == len(content.front) + 2
    assert all(row.size_tau is None for row in content.generations)


def test_a_front_that_an_earlier_release_measured_as_a_whole_is_reported_as_a_whole(tmp_path: Path) -> None:
    every = small_plan({"reporting": {"networks": 50}}, evaluations=60)
    chosen, _, _, history = search(every, tmp_path / "h.sqlite", report=True)
    few = small_plan({"reporting": {"networks": 3, "random": True}}, evaluations=60)
    content = write_report(few, history, chosen, tmp_path)
    assert content.reported == content.front and len(content.front) == len(chosen) > 3
    assert content.random == () and content.advantage is None and content.failures == ()


def test_random_networks_of_the_same_sizes_are_measured_on_the_report_items_only(tmp_path: Path) -> None:
    plan = small_plan(RANDOM, evaluations=60)
    chosen, seen, _, history = search(plan, tmp_path / "h.sqlite", report=True)
    content = write_report(plan, history, chosen, tmp_path)
    assert [row.name for row in content.random] == [f"{row.name} random" for row in content.reported]
    for row, other in zip(content.reported, content.random, strict=True):
        assert other.architecture not in chosen and other.search_accuracy is None
        assert other.architecture.depth == row.architecture.depth
        assert plan.request(other.architecture, "report").identity in seen
        assert row.versus_random is not None and row.report_accuracy is not None
        assert other.report_accuracy is not None
        assert row.versus_random.difference == pytest.approx(row.report_accuracy - other.report_accuracy)
    differences = [row.versus_random.difference for row in content.reported if row.versus_random]
    assert content.advantage is not None and content.advantage.pairs == 3
    assert content.advantage.difference == pytest.approx(sum(differences) / 3)
    again = search(plan, tmp_path / "h.sqlite", report=True)
    assert again[1] == []


def test_a_random_network_that_fails_is_missing_and_named(tmp_path: Path) -> None:
    plan = small_plan(RANDOM, evaluations=60)
    probe = search(plan, tmp_path / "probe.sqlite", report=True)
    drawn = write_report(plan, probe[3], probe[0], tmp_path).random[1].architecture
    chosen, _, _, history = search(
        plan, tmp_path / "h.sqlite", only(lambda request: request.architecture == drawn), report=True
    )
    content = write_report(plan, history, chosen, tmp_path)
    assert len(content.random) == 2 and content.advantage is not None and content.advantage.pairs == 2
    assert len(content.failures) == 1 and "random: bad_request, no engine here" in content.failures[0]


def test_comparisons_are_corrected_for_their_number(tmp_path: Path) -> None:
    plan = small_plan(RANDOM, evaluations=60)
    chosen, _, _, history = search(plan, tmp_path / "h.sqlite", report=True)
    content = write_report(plan, history, chosen, tmp_path)
    against = [row.versus_dense for row in (*content.reported, content.base) if row.versus_dense is not None]
    assert [each.corrected for each in against] == holm([each.p_value for each in against])
    randoms = [row.versus_random for row in content.reported if row.versus_random is not None]
    assert [each.corrected for each in randoms] == holm([each.p_value for each in randoms])


def test_the_report_counts_how_often_its_items_were_looked_at(tmp_path: Path) -> None:
    first = small_plan(evaluations=20)
    chosen, _, _, history = search(first, tmp_path / "h.sqlite", report=True)
    once = write_report(first, history, chosen, tmp_path)
    assert (once.looked_at, once.fronts) == (len({dense(SHAPE), *chosen}) + 1, 1)
    search(first, tmp_path / "h.sqlite", report=True)
    again = write_report(first, history, chosen, tmp_path)
    assert again == once.model_copy(update={"created": again.created})
    more = small_plan(evaluations=60)
    later, _, _, history = search(more, tmp_path / "h.sqlite", report=True)
    again = write_report(more, history, later, tmp_path)
    assert later != chosen and again.fronts == 2
    reported = {row.architecture for content in (once, again) for row in content.reported}
    assert again.looked_at == len({dense(SHAPE)} | reported) + 1


def test_a_report_of_a_release_that_noted_nothing_counts_as_a_look(tmp_path: Path) -> None:
    plan = small_plan()
    chosen, _, _, history = search(plan, tmp_path / "h.sqlite", report=True)
    with closing(sqlite3.connect(history.path, isolation_level=None)) as file:
        file.execute("drop trigger about_delete")
        file.execute("delete from about where key like 'report items%'")
    content = write_report(plan, history, chosen, tmp_path)
    assert (content.looked_at, content.fronts) == (len({dense(SHAPE), *chosen}) + 1, 1)
    later, _, _, history = search(small_plan(evaluations=60), tmp_path / "h.sqlite", report=True)
    assert write_report(small_plan(evaluations=60), history, later, tmp_path).fronts == 2


def test_several_tasks_are_reported_one_by_one_and_alike(tmp_path: Path) -> None:
    tasks = [
        {"name": name, "search": {"items": 40, "split": "validation"}, "report": {"items": items, "split": "test"}}
        for name, items in (("plain_facts", 90), ("arc_easy", 30))
    ]
    plan = small_plan({"tasks": tasks})
    chosen, _, _, history = search(plan, tmp_path / "h.sqlite", report=True)
    content = write_report(plan, history, chosen, tmp_path)
    assert content.report_items == 120 and not content.clustered
    for row in (*content.reported, content.base):
        first, second = row.by_task["plain_facts"], row.by_task["arc_easy"]
        assert row.report_accuracy == pytest.approx((90 * first.accuracy + 30 * second.accuracy) / 120)
        assert row.macro is not None and row.macro.accuracy == pytest.approx((first.accuracy + second.accuracy) / 2)
        assert row.macro.interval[0] < row.macro.accuracy < row.macro.interval[1]
        for task in (first, second, row.macro):
            assert task.versus_dense is not None
            assert task.versus_dense.interval[0] <= task.versus_dense.difference <= task.versus_dense.interval[1]
            assert task.versus_dense.p_value <= task.versus_dense.corrected
    family = [
        task.versus_dense
        for row in (*content.reported, content.base)
        for task in row.by_task.values()
        if task.versus_dense is not None
    ]
    assert [each.corrected for each in family] == holm([each.p_value for each in family])


def grouped(*even: str) -> Answer:
    """An evaluator whose task is a group of five tasks of very different sizes."""

    def answer(request: EvaluationRequest) -> Measurement:
        measured = pretend(request)
        scores = tuple(
            score.model_copy(update={"clusters": tuple(min(4, item // 8) for item in score.items), "even": even})
            for score in measured.scores
        )
        return measured.model_copy(update={"scores": scores})

    return answer


def test_items_of_a_group_are_clustered_by_its_tasks(tmp_path: Path) -> None:
    plan = small_plan()
    chosen, _, _, history = search(plan, tmp_path / "plain.sqlite", report=True)
    plain = write_report(plan, history, chosen, tmp_path)
    chosen, _, _, history = search(plan, tmp_path / "h.sqlite", grouped(), report=True)
    content = write_report(plan, history, chosen, tmp_path)
    assert content.clustered and not plain.clustered
    wider = 0
    for row, alone in zip(content.front, plain.front, strict=True):
        assert row.report_accuracy == alone.report_accuracy
        wide, narrow = (one.reported[1][1] - one.reported[1][0] for one in (row, alone))
        assert wide >= narrow - 1e-12
        wider += wide > narrow + 1e-6
    assert wider > 0
    assert content.front[0].by_task["plain_facts"].accuracy == content.front[0].report_accuracy


def test_a_group_whose_tasks_count_alike_is_shown_as_lm_eval_aggregates_it(tmp_path: Path) -> None:
    plan = small_plan()
    chosen, _, _, history = search(plan, tmp_path / "h.sqlite", grouped("acc"), report=True)
    content = write_report(plan, history, chosen, tmp_path)
    row = content.front[0]
    outcome = history.outcome(plan.request(row.architecture, "report").identity)
    assert isinstance(outcome, Measurement)
    (scores,) = outcome.scores
    means = []
    for number in range(5):
        members = [v for v, c in zip(scores.metrics["acc"], scores.clusters, strict=True) if c == number]
        means.append(sum(members) / len(members))
    assert row.by_task["plain_facts"].accuracy == pytest.approx(sum(means) / 5)
    assert row.by_task["plain_facts"].accuracy != row.report_accuracy


def test_the_cache_of_keys_and_values_is_exact(tmp_path: Path) -> None:
    plan = small_plan()
    chosen, _, _, history = search(plan, tmp_path / "h.sqlite", report=True)
    content = write_report(plan, history, chosen, tmp_path)
    per_layer = 2 * SHAPE.kv_heads * SHAPE.head_dim * 4
    assert content.dense.cache_bytes_per_token == 8 * per_layer
    assert all(row.cache_bytes_per_token == row.architecture.depth * per_layer for row in content.front)


def refused(request: EvaluationRequest) -> Failure:
    return Failure(kind="bad_request", reason="no engine here", retry_may_help=False)


def only(wrong: Callable[[EvaluationRequest], bool], otherwise: Answer = refused) -> Answer:
    """Answer the requests that are `wrong` another way."""
    return lambda request: otherwise(request) if wrong(request) else pretend(request)


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
        with pytest.raises(UserError, match=r"serving: the cost table .* engine torch \(no engine here\); mend that"):
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


def test_the_report_holds_costs_speeds_and_the_front_again_in_int8(tmp_path: Path) -> None:
    plan = small_plan(REMEASURED)
    chosen, seen, _, history = search(plan, tmp_path / "h.sqlite", report=True)
    assert len(seen) == len(set(seen))
    content = write_report(plan, history, chosen, tmp_path)
    assert content.objectives == ("parameters",) and content.reference_point == (1.1, 0.0)
    assert content.serving == (
        "torch 1.2.3 on none, float32, batch 1, 128 tokens read and 32 generated by each sequence, 3 repeats"
    )
    assert [row.name for row in content.int8] == [*(f"{row.name} int8" for row in content.front), "dense int8"]
    for row, again in zip((*content.front, content.dense), content.int8, strict=True):
        assert again.architecture == row.architecture.quantized("int8")
        assert again.bytes == weight_bytes(SHAPE, again.architecture, "float32") < row.bytes
        assert again.ratio == pytest.approx(content.dense.bytes / again.bytes)
        assert again.versus_original is not None and row.report_accuracy is not None
        assert again.versus_original.difference == pytest.approx((again.report_accuracy or 0) - row.report_accuracy)
        assert again.search_accuracy is None and again.versus_dense is not None and again.versus_base is not None
        assert again.prefill_seconds is not None and row.prefill_seconds is not None
        assert again.prefill_seconds > row.prefill_seconds
        for each in (row, again):
            assert each.speed is not None
            middle, least, most = each.speed.decode
            assert least < middle < most and each.speed.prefill == pytest.approx((10 * middle, 10 * least, 10 * most))
    assert content.dense.decode_seconds == pytest.approx(0.001 + 8 * (7 + 48) * 0.0001)
    assert content.base.speed is None
    assert content.failures == ()
    names = {row.name.replace(" ", "-") for row in (*content.front, *content.int8)}
    assert {path.stem for path in (tmp_path / "front").iterdir()} == names
    again = Architecture.model_validate_json((tmp_path / "front" / "N1-int8.json").read_text())
    assert again.quantization == "int8"


def test_speeds_are_asked_apart_from_accuracies_and_all_in_one_request(tmp_path: Path) -> None:
    asked: list[EvaluationRequest] = []

    def note(request: EvaluationRequest) -> Measurement:
        asked.append(request)
        return pretend(request)

    chosen, _, _, _ = search(small_plan(REMEASURED), tmp_path / "h.sqlite", note, report=True)
    (request,) = (request for request in asked if request.spec.speed is not None)
    speed, networks = request.spec.speed, {dense(SHAPE), *chosen}
    assert speed is not None and request.spec.tasks == ()
    assert speed == SpeedSpec(engine="torch", workload=Workload(), repeats=3, networks=speed.networks)
    timed = [request.architecture, *speed.networks]
    assert len(timed) == 2 * len(networks)
    assert set(timed) == networks | {one.quantized("int8") for one in networks}
    plain = {plan_request.identity for plan_request in (small_plan().request(one, "report") for one in chosen)}
    assert plain <= {request.identity for request in asked}


def test_what_fails_at_the_end_is_shown_as_not_measured_and_tried_again_by_the_next_run(tmp_path: Path) -> None:
    plan, path = small_plan(REMEASURED), tmp_path / "h.sqlite"

    def int8_or_speed(request: EvaluationRequest) -> bool:
        return request.architecture.quantization == "int8" or request.spec.speed is not None

    chosen, _, _, history = search(plan, path, only(int8_or_speed), report=True)
    content = write_report(plan, history, chosen, tmp_path)
    assert content.int8 == ()
    assert all(row.speed is None for row in (*content.front, content.dense))
    assert "N1 int8: bad_request, no engine here" in content.failures
    assert "speed of dense: bad_request, no engine here" in content.failures
    assert len(content.failures) == 3 * (len(chosen) + 1)
    _, seen, _, history = search(plan, path, report=True)
    networks = {dense(SHAPE), *chosen}
    assert len(seen) == len(networks) + 1
    content = write_report(plan, history, chosen, tmp_path)
    assert content.failures == () and len(content.int8) == len(chosen) + 1


def test_a_network_that_cant_be_timed_is_listed_and_the_others_are_shown_with_their_device(tmp_path: Path) -> None:
    plan = small_plan(REMEASURED)
    failure = Failure(kind="infeasible", reason="no INT8 here", retry_may_help=False)

    def without_int8(request: EvaluationRequest) -> Measurement:
        measured, spec = pretend(request), request.spec.speed
        if spec is None:
            return measured
        pairs = zip(spec.networks, measured.speeds, strict=True)
        speeds = tuple(failure if network.quantization == "int8" else speed for network, speed in pairs)
        return measured.model_copy(update={"speeds": speeds})

    chosen, _, _, history = search(plan, tmp_path / "h.sqlite", without_int8, report=True)
    content = write_report(plan, history, chosen, tmp_path)
    assert all(row.speed is None for row in content.int8) and content.int8
    for row in (*content.front, content.dense):
        assert row.speed is not None and (row.speed.engine, row.speed.device) == ("torch 1.2.3", "none")
    assert set(content.failures) == {f"speed of {row.name}: infeasible, no INT8 here" for row in content.int8}


def failing(kind: FailureKind, *which: Callable[[EvaluationRequest], bool]) -> Answer:
    """Fails at some requests in this way, as an evaluator of too little memory does."""
    failure = Failure(kind=kind, reason="too large", retry_may_help=False)
    return lambda request: failure if any(each(request) for each in which) else pretend(request)


@pytest.mark.parametrize("kind", ["timed_out", "crashed", "out_of_memory"])
def test_a_network_that_fails_on_the_report_items_leaves_the_front_and_is_tried_again_by_the_next_run(
    tmp_path: Path, kind: FailureKind
) -> None:
    plan, path = small_plan(), tmp_path / "h.sqlite"
    undisturbed, _, _, other = search(plan, tmp_path / "other.sqlite", report=True)
    largest = plan.request(undisturbed[-1], "report").identity
    chosen, _, _, history = search(plan, path, failing(kind, lambda request: request.identity == largest), report=True)
    assert chosen == undisturbed
    content = write_report(plan, history, chosen, tmp_path)
    assert "N1" not in [row.name for row in content.front] and not (tmp_path / "front" / "N1.json").exists()
    assert f"N1, which has left the front: {kind}, too large" in content.failures
    _, seen, _, history = search(plan, path, report=True)
    assert seen == [largest]
    mended, whole = (write_report(plan, each, undisturbed, tmp_path) for each in (history, other))
    assert mended.front == whole.front and mended.failures == ()


@pytest.mark.parametrize("name", ["dense", "base"])
def test_a_control_that_fails_ends_the_run_with_what_will_happen_and_the_next_one_tries_it_again(
    tmp_path: Path, name: str
) -> None:
    plan, path = small_plan(), tmp_path / "h.sqlite"
    control = plan.base_request("report") if name == "base" else plan.request(dense(SHAPE), "report")
    failed = failing("timed_out", lambda request: request.identity == control.identity)
    with pytest.raises(UserError, match=rf"the {name} network, .* failed \(timed_out: too large\); .* tries it again"):
        search(plan, path, failed, report=True)
    chosen, seen, _, history = search(plan, path, report=True)
    assert seen[0] == control.identity
    assert write_report(plan, history, chosen, tmp_path).failures == ()


@pytest.mark.parametrize("kind", ["timed_out", "infeasible"])
def test_a_last_generation_of_which_everything_fails_doesnt_end_the_search(tmp_path: Path, kind: FailureKind) -> None:
    plan, path = small_plan(evaluations=17), tmp_path / "h.sqlite"  # 8, 8 and 1
    failure = Failure(kind=kind, reason="too large", retry_may_help=False)
    chosen, _, observer, history = search(plan, path, after(16, lambda request: failure))
    assert [row.evaluations for row in observer.generations] == [8, 16, 17]
    assert chosen == front(evaluated_so_far(plan, history))


@pytest.mark.parametrize(("kind", "goes_on"), [("crashed", False), ("infeasible", True)])
def test_another_generation_of_which_everything_fails_ends_it_unless_the_networks_are_to_blame(
    tmp_path: Path, kind: FailureKind, goes_on: bool
) -> None:
    plan, path = small_plan(), tmp_path / "h.sqlite"
    failure, numbers = Failure(kind=kind, reason="broken", retry_may_help=False), iter(range(10**6))
    second: Answer = lambda request: failure if 8 <= next(numbers) < 16 else pretend(request)  # noqa: E731
    if goes_on:
        assert search(plan, path, second)[2].generations[-1].evaluations == 20
        return
    with pytest.raises(UserError, match=r"generation 1: every network failed, .*crashed: broken; .* tries them again"):
        search(plan, path, second)
    recorded = History.read(path).candidates()
    _, seen, _, history = search(plan, path)
    assert len(seen) == 12 and history.candidates()[: len(recorded)] == recorded


def test_a_candidate_that_is_tried_again_changes_no_proposal_that_is_recorded(tmp_path: Path) -> None:
    plan, path = small_plan(evaluations=24), tmp_path / "h.sqlite"
    first = plan.space.largest()
    failed = failing("timed_out", lambda request: request.architecture == first)
    search(plan, path, failed)
    before = History.read(path).candidates()
    raised = small_plan(evaluations=32)
    _, seen, _, history = search(raised, path)
    assert plan.request(first, "search").identity in seen and len(seen) == 1 + 8
    assert history.candidates()[: len(before)] == before


def test_a_report_with_a_quantization_gene_says_which_networks_are_quantised(tmp_path: Path) -> None:
    plan = small_plan(SERVED)
    chosen, _, _, history = search(plan, tmp_path / "h.sqlite", report=True)
    content = write_report(plan, history, chosen, tmp_path)
    assert content.int8 == () and content.reference_point == (1.1, 1.1, 0.0)
    assert "int8" in {row.architecture.quantization for row in content.front}
    assert content.dense.architecture.quantization == "none"
    for row in content.front:
        saved = Architecture.model_validate_json((tmp_path / "front" / f"{row.name}.json").read_text())
        assert saved == row.architecture
    assert [row.bytes for row in content.front] == sorted((row.bytes for row in content.front), reverse=True)
    assert {one.bytes == weight_bytes(SHAPE, one.architecture, "float32") for one in content.evaluated} == {True}
    found = plan_of(history, plan.settings)
    assert found == replace(plan, supernet=found.supernet, base=found.base)
    assert (found.supernet.digest, found.base.digest) == (plan.supernet.digest, plan.base.digest)


def test_a_smaller_front_leaves_no_files_of_a_former_one(tmp_path: Path) -> None:
    plan = small_plan(REMEASURED)
    chosen, _, _, history = search(plan, tmp_path / "h.sqlite", report=True)
    write_report(plan, history, chosen, tmp_path)
    write_report(plan, history, chosen[:2], tmp_path)
    expected = {"N1", "N2", "N1-int8", "N2-int8", "dense-int8"}
    assert {path.stem for path in (tmp_path / "front").iterdir()} == expected
