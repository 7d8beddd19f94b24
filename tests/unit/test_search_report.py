"""The end of a search: what is measured on the report items, and what the report holds of it."""

import json
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from services.coordinator.history import History
from services.coordinator.plan import plan_of
from services.coordinator.results import evaluated_so_far, front
from services.reporting.charts.layer_strips import LayerStrip, layer_strips
from services.reporting.report_data import NetworkRow, ReportContent
from services.reporting.report_files import write_report
from services.reporting.statistics.multiple_testing import holm
from shared.architecture import Architecture, dense, derive
from shared.errors import UserError
from shared.messages import EvaluationRequest, Failure, Measurement, SpeedSpec, Workload
from shared.network.sizes import weight_bytes
from shared.settings import read_search_file
from tests.support.searches import (
    REMEASURED,
    SERVED,
    SHAPE,
    Answer,
    only,
    pretend,
    search,
    small_plan,
)

FIXTURES = Path(__file__).parents[1] / "fixtures"


def held_bytes(architecture: Architecture) -> int:
    return weight_bytes(derive(SHAPE, architecture), "float32", architecture.quantization)


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


def test_the_report_says_that_a_task_was_measured_with_the_chat_template(tmp_path: Path) -> None:
    task = {"name": "plain_facts", "num_fewshot": 2, "search": {"items": 40}, "report": {"items": 60}}
    chat = {"apply_chat_template": "rag", "fewshot_as_multiturn": False}
    for number, (changes, words) in enumerate(
        [({}, "(2-shot, acc;"), (chat, "(2-shot, chat template rag, examples in one turn, acc;")]
    ):
        plan = small_plan({"tasks": [{**task, **changes}]})
        chosen, _, _, history = search(plan, tmp_path / f"{number}.sqlite", report=True)
        assert words in write_report(plan, history, chosen, tmp_path).headline
        assert words in (tmp_path / "report.html").read_text(encoding="utf-8")


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
    assert content.random == () and content.failures == () and content.reported_fronts == 1
    assert content.networks_on_report_items == len(content.front) + 2
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


def test_the_report_counts_how_often_its_items_were_used(tmp_path: Path) -> None:
    first = small_plan(evaluations=20)
    chosen, _, _, history = search(first, tmp_path / "h.sqlite", report=True)
    once = write_report(first, history, chosen, tmp_path)
    assert (once.networks_on_report_items, once.reported_fronts) == (len({dense(SHAPE), *chosen}) + 1, 1)
    search(first, tmp_path / "h.sqlite", report=True)
    again = write_report(first, history, chosen, tmp_path)
    assert again == once.model_copy(update={"created": again.created})
    more = small_plan(evaluations=60)
    later, _, _, history = search(more, tmp_path / "h.sqlite", report=True)
    again = write_report(more, history, later, tmp_path)
    assert later != chosen and again.reported_fronts == 2
    reported = {row.architecture for content in (once, again) for row in content.reported}
    assert again.networks_on_report_items == len({dense(SHAPE)} | reported) + 1


def test_a_report_of_a_release_that_recorded_nothing_counts_as_a_use(tmp_path: Path) -> None:
    plan = small_plan()
    chosen, _, _, history = search(plan, tmp_path / "h.sqlite", report=True)
    with closing(sqlite3.connect(history.path, isolation_level=None)) as file:
        file.execute("drop trigger about_delete")
        file.execute("delete from about where key like 'report items%'")
    content = write_report(plan, history, chosen, tmp_path)
    assert (content.networks_on_report_items, content.reported_fronts) == (len({dense(SHAPE), *chosen}) + 1, 1)
    later, _, _, history = search(small_plan(evaluations=60), tmp_path / "h.sqlite", report=True)
    assert write_report(small_plan(evaluations=60), history, later, tmp_path).reported_fronts == 2


def test_several_tasks_are_reported_one_by_one_and_in_their_mean(tmp_path: Path) -> None:
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


def test_a_group_whose_tasks_count_equally_is_shown_as_lm_eval_aggregates_it(tmp_path: Path) -> None:
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


def test_the_kv_cache_is_exact(tmp_path: Path) -> None:
    plan = small_plan()
    chosen, _, _, history = search(plan, tmp_path / "h.sqlite", report=True)
    content = write_report(plan, history, chosen, tmp_path)
    attention = SHAPE.layers[0].attention
    per_layer = 2 * attention.kv_heads * attention.head_dim * 4
    assert content.dense.cache_bytes_per_token == 8 * per_layer
    assert all(row.cache_bytes_per_token == row.architecture.depth * per_layer for row in content.front)


def test_layers_without_attention_and_the_kv_cache_of_the_served_batch_are_shown(tmp_path: Path) -> None:
    serving = {"batch": 4, "prompt_tokens": 20, "generated_tokens": 5, "repeats": 2}
    space = {"attention": ["keep", "skip"], "mlp_widths": [48, 32]}
    objectives = ["kv_cache_bytes", "bytes"]
    changes = {"objectives": objectives, "serving": serving, "space": space, "reporting": {"random": True}}
    plan = small_plan(changes, strategy="random")
    chosen, _, _, history = search(plan, tmp_path / "h.sqlite", report=True)
    content = write_report(plan, history, chosen, tmp_path)
    for row in (*content.front, *content.random, content.dense):
        assert row.kv_cache_bytes == 4 * 25 * row.cache_bytes_per_token
        assert row.cache_bytes_per_token == sum(row.architecture.attentions) * content.dense.cache_bytes_per_token / 8
    skipping = [row for row in content.front if row.architecture.without_attention]
    assert skipping and all(strip.summary.count("no attention") == 1 for strip in _strips(content, skipping))
    page = (tmp_path / "report.html").read_text()
    assert page.count('class="skip"') > sum(len(row.architecture.without_attention) for row in content.front)
    assert "without attention" in page and "with or" not in page
    assert all(each.kv_cache_bytes is not None for each in content.evaluated)
    for row in content.random:
        (original,) = (one for one in content.front if one.name == row.name.removesuffix(" random"))
        assert len(row.architecture.without_attention) == len(original.architecture.without_attention)


def _strips(content: ReportContent, rows: Sequence[NetworkRow]) -> list[LayerStrip]:
    return [strip for strip in layer_strips(content) if strip.name in {row.name for row in rows}]


def test_the_report_holds_costs_speeds_and_the_front_again_in_int8(tmp_path: Path) -> None:
    plan = small_plan(REMEASURED)
    chosen, seen, _, history = search(plan, tmp_path / "h.sqlite", report=True)
    assert len(seen) == len(set(seen))
    content = write_report(plan, history, chosen, tmp_path)
    assert content.objectives == ("parameters",) and content.reference_point == (1.1, 0.0)
    assert content.serving == (
        "torch 1.2.3 on none, float32, batch 1, 128 prompt tokens and 32 generated tokens per sequence, 3 repeats"
    )
    assert [row.name for row in content.int8] == [*(f"{row.name} int8" for row in content.front), "dense int8"]
    for row, again in zip((*content.front, content.dense), content.int8, strict=True):
        assert again.architecture == row.architecture.quantized("int8")
        assert again.bytes == held_bytes(again.architecture) < row.bytes
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
    failure = Failure(kind="infeasible", reason="no INT8 here")

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
    assert {one.bytes == held_bytes(one.architecture) for one in content.evaluated} == {True}
    found = plan_of(history, plan.settings)
    assert found == replace(plan, supernet=found.supernet, base=found.base)
    assert (found.supernet.digest, found.base.digest) == (plan.supernet.digest, plan.base.digest)


def test_a_smaller_front_leaves_no_files_of_an_earlier_one(tmp_path: Path) -> None:
    plan = small_plan(REMEASURED)
    chosen, _, _, history = search(plan, tmp_path / "h.sqlite", report=True)
    write_report(plan, history, chosen, tmp_path)
    write_report(plan, history, chosen[:2], tmp_path)
    expected = {"N1", "N2", "N1-int8", "N2-int8", "dense-int8"}
    assert {path.stem for path in (tmp_path / "front").iterdir()} == expected
