"""From a study's measurements to what its report says, and its tables."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.coordinator.study.networks import Study, StudyNetwork, of_kind
from services.reporting.report_data import SpeedRow
from services.reporting.statistics.multiple_testing import holm
from services.reporting.statistics.winners_curse import expected_excess
from services.reporting.study.answers import StudyAnswers, key, label
from services.reporting.study.assemble import assemble
from services.reporting.study.compared import Beside
from services.reporting.study.difference import Difference
from services.reporting.study.faster import faster
from services.reporting.study.page import render_study
from services.reporting.study.study_data import Claim, FrontRow, StudyContent
from services.reporting.study.tables import tables
from shared.architecture import Architecture
from shared.messages import CheckpointRef, EvaluationRequest, Failure, Measurement, Outcome
from shared.network.sizes import parameters
from shared.settings.study_file import TOGETHER, StudySettings
from tests.support.studies import SHAPE, TASKS, Answer, answered, close_study, make_study, study_settings

TWO = TASKS[:2]
NO_NETWORK_OF_THE_SIZE = 1.001
"""So little smaller than the whole network that a search meets only smaller ones, of which it takes the best."""


def small_settings(**changes: object) -> StudySettings:
    """A study of one super-network on two tasks at one size."""
    return study_settings(
        **{
            "supernets": [{"name": "ours", "space": {"depths": [30, 27, 24], "mlp_widths": [1536, 768]}}],
            "tasks": [{"name": name, "search": {"items": 40}, "report": {"items": 80}} for name in TWO],
            "sizes": [1.3],
            "search": {"evaluations": 12, "population": 4},
            "baselines": [{"baseline": "llm-pruner"}, {"baseline": "slicegpt"}],
            "heuristics": [],
            "timed_task": TWO[0],
            **changes,
        }
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    made = make_study(tmp_path_factory.mktemp("study"), small_settings())
    yield made
    close_study(made)


@pytest.fixture(scope="module")
def content(study: Study) -> StudyContent:
    return assemble(study)


def content_of(directory: Path, answer: Answer, **changes: object) -> StudyContent:
    """What a report says of a small study in which requests are answered so."""
    made = make_study(directory, small_settings(**changes), answer)
    try:
        return assemble(made)
    finally:
        close_study(made)


def right(study: Study, network: StudyNetwork, task: str, quantization: str = "none") -> tuple[float, ...]:
    """Which report items of a task a network answered right."""
    outcome = study.outcome(network, task, quantization)  # type: ignore[arg-type]
    assert isinstance(outcome, Measurement)
    return outcome.scores[0].metrics["acc"]


def the(study: Study, kind: str, **others: object) -> StudyNetwork:
    """The one network of a study of a kind, and with other properties."""
    (network,) = (
        each
        for each in study.networks
        if each.kind == kind and all(getattr(each, name) == value for name, value in others.items())
    )
    return network


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_network_has_the_accuracy_that_was_measured_on_each_task_and_the_mean_of_these(
    study: Study, content: StudyContent
) -> None:
    base = the(study, "base")
    row = content.network(key(base))
    shares = [sum(right(study, base, task)) / 80 for task in TWO]
    assert [row.by_task[task].accuracy for task in TWO] == pytest.approx(shares)
    assert row.mean is not None
    assert row.mean.accuracy == pytest.approx(sum(shares) / 2)
    assert row.true_times_smaller == 1


def test_every_network_that_was_ever_measured_on_report_items_is_counted_once(
    study: Study, content: StudyContent, tmp_path: Path
) -> None:
    seen = {
        (network.checkpoint.digest, network.architecture.quantized(quantization))
        for network in study.networks
        for quantization in ("none", "int8")
        if study.tasks_of(network, quantization)
    }
    fronts = {
        (row.name == "base", front.supernet, row.architecture)
        for front in content.fronts
        for row in (*front.rows, *front.controls, *front.random, *front.int8)
        if row.report is not None
    }
    of_searches = {("base" if base else supernet, network) for base, supernet, network in fronts}
    assert content.networks_on_report_items == len(seen | of_searches) > len(seen)
    assert f"{content.networks_on_report_items} different networks" in render_study(content)
    fewer = assemble(replace(study, networks=study.networks[:3]))
    assert fewer.networks_on_report_items == content.networks_on_report_items


def test_names_and_keys_tell_all_networks_apart(study: Study, content: StudyContent) -> None:
    assert len({row.key for row in content.networks}) == len(study.networks)
    assert len({row.label for row in content.networks}) == len(study.networks)


NAMES = st.none() | st.text("ab-:% ", min_size=1, max_size=4)


@given(st.lists(st.tuples(NAMES, NAMES, NAMES, st.sampled_from([None, 1.3, 1.3000001])), min_size=2, unique=True))
def test_keys_are_unique_whatever_things_are_called(parts: list[tuple[Any, ...]]) -> None:
    base = CheckpointRef(location="there", digest="base")
    network = StudyNetwork("heuristic", base, Architecture(layers=(0,), mlp_widths=(8,)))
    networks = [
        replace(network, supernet=supernet, chosen_on=on, name=name, times_smaller=size)
        for supernet, on, name, size in parts
    ]
    assert len({key(each) for each in networks}) == len(networks)


def test_what_was_chosen_on_a_task_is_compared_on_it_item_by_item(study: Study, content: StudyContent) -> None:
    chosen, rival = (
        the(study, "chosen", chosen_on=TWO[0]),
        the(study, "baseline", name="slicegpt", fine_tuning="lora"),
    )
    (table,) = content.equal_size
    (compared,) = (each for each in table.comparisons if (each.one, each.other) == (label(chosen), label(rival)))
    mine, theirs = right(study, chosen, TWO[0]), right(study, rival, TWO[0])
    assert compared.task == TWO[0]
    assert compared.difference == pytest.approx((sum(mine) - sum(theirs)) / 80)
    assert (
        compared.interval[0] < compared.lower_bound < compared.difference < compared.upper_bound < compared.interval[1]
    )


def test_what_was_chosen_on_all_tasks_is_compared_on_each_and_in_their_mean(
    study: Study, content: StudyContent
) -> None:
    chosen = label(the(study, "chosen", chosen_on=TOGETHER))
    (table,) = content.equal_size
    compared = {each.task: each.difference for each in table.comparisons if (each.one, each.other) == (chosen, "base")}
    assert list(compared) == [*TWO, "mean"]
    assert compared["mean"] == pytest.approx((compared[TWO[0]] + compared[TWO[1]]) / 2)


def test_the_table_of_a_size_has_its_controls_and_every_baseline(study: Study, content: StudyContent) -> None:
    kinds = [content.network(name).kind for name in content.equal_size[0].networks]
    assert kinds[:2] == ["base", "dense"]
    assert kinds.count("baseline") == 6
    assert kinds.count("random") == len(of_kind(study.networks, "random")) > 0
    alone = [name for name in content.equal_size[0].networks if content.network(name).kind == "alone"]
    assert [content.network(name).chosen_on for name in alone] == [TOGETHER, TOGETHER]


def test_p_values_of_each_table_are_corrected_for_all_its_comparisons(content: StudyContent) -> None:
    for family in ("fronts", "equal_size", "int8", "heuristics", "transfer", "claims"):
        found = [each for each in content.comparisons if each.family == family]
        assert found
        assert [each.corrected for each in found] == pytest.approx(holm([each.p_value for each in found]))


def test_every_heuristic_is_listed_and_compared_at_its_own_size_whatever_that_is(tmp_path: Path) -> None:
    elsewhere = {"name": "theirs", "supernet": "ours", "depth": 30, "layers": [2, 3]}
    made = make_study(tmp_path, small_settings(heuristics=[elsewhere]))
    content = assemble(made)
    close_study(made)
    built = {row.label: row for row in content.networks if row.kind == "heuristic"}
    theirs = built["ours: heuristic theirs"]
    assert theirs.true_times_smaller is not None
    assert theirs.true_times_smaller < 1.3
    for table in content.equal_size:
        sizes = [content.network(name).true_times_smaller or 0 for name in table.networks if "heuristic" in name]
        assert all(size >= table.times_smaller for size in sizes)
        assert theirs.key not in table.networks
    compared = {(each.one, each.other, each.task) for each in content.heuristics}
    dense = "ours: dense"
    assert {(theirs.label, other, task) for other in ("base", dense) for task in (*TWO, "mean")} < compared
    for task in TWO:
        mine = f"ours: heuristic on {task}"
        assert {(mine, other, task) for other in ("base", dense, f"ours: chosen on {task}, 1.3x")} < compared
    rows = read(tables(content)["heuristics.csv"])
    assert {row["network"] for row in rows} == set(built)
    page = render_study(content)
    listed = page[page.index('<table id="heuristics"') :].split("</table>")[0]
    assert all(name in listed for name in built)


def test_the_transfer_matrix_compares_with_what_was_chosen_on_the_task_itself(
    study: Study, content: StudyContent
) -> None:
    (matrix,) = content.transfer
    assert matrix.chosen_on == (*TWO, TOGETHER)
    there, own = (the(study, "chosen", chosen_on=on) for on in (TWO[0], TWO[1]))
    cell = matrix.cell(TWO[0], TWO[1])
    assert cell.accuracy is not None
    assert cell.accuracy.accuracy == pytest.approx(sum(right(study, there, TWO[1])) / 80)
    assert cell.versus_own is not None
    expected = (sum(right(study, there, TWO[1])) - sum(right(study, own, TWO[1]))) / 80
    assert cell.versus_own.difference == pytest.approx(expected)
    assert matrix.cell(TWO[1], TWO[1]).versus_own is None


def test_the_optimism_of_a_choice_is_what_it_loses_from_search_to_report_items(
    study: Study, content: StudyContent
) -> None:
    row = next(each for each in content.selected if each.chosen_on == TWO[0])
    assert row.curse is not None
    assert row.search_accuracy is not None
    assert row.report is not None
    assert row.curse.optimism == pytest.approx(row.search_accuracy - row.report.accuracy)
    assert (row.curse.networks, row.curse.search_items) == (12, 40)
    assert row.curse.correlated is not None
    assert 0 < row.curse.correlated <= row.curse.bound


def test_the_optimism_of_a_choice_on_all_tasks_is_the_mean_of_the_tasks_whatever_their_numbers_of_items(
    tmp_path: Path,
) -> None:
    items = {TWO[0]: (40, 10), TWO[1]: (10, 200)}
    tasks = [
        {"name": name, "search": {"items": search}, "report": {"items": report}}
        for name, (search, report) in items.items()
    ]
    shares = {TWO[0]: 0.3, TWO[1]: 0.9}

    def answer(request: EvaluationRequest) -> Outcome:
        """As accurate on the search items of each task as on its report items."""
        measured = answered(request)
        scores = []
        for each in measured.scores:
            right = round(shares[each.task] * len(each.items))
            answers = (1.0,) * right + (0.0,) * (len(each.items) - right)
            scores.append(each.model_copy(update={"metrics": {"acc": answers}}))
        return measured.model_copy(update={"scores": tuple(scores)})

    content = content_of(tmp_path, answer, tasks=tasks)
    (row,) = (each for each in content.selected if each.chosen_on == TOGETHER)
    assert row.curse is not None
    assert row.report is not None
    assert row.search_accuracy == pytest.approx(0.6)
    assert row.report.accuracy == pytest.approx(0.6)
    assert row.curse.optimism == pytest.approx(0)
    errors = [share * (1 - share) / (items[task][0] - 1) for task, share in shares.items()]
    assert row.curse.bound == pytest.approx(expected_excess(sqrt(sum(errors)) / 2, 12))


def test_int8_is_compared_with_the_same_network_before(study: Study, content: StudyContent) -> None:
    dense = the(study, "dense")
    (row,) = (each for each in content.int8 if each.label == label(dense) and each.task == TWO[1])
    before, after = right(study, dense, TWO[1]), right(study, dense, TWO[1], "int8")
    assert row.comparison.difference == pytest.approx((sum(after) - sum(before)) / 80)
    assert row.bytes_after < row.bytes_before


def test_the_random_networks_are_controls_in_int8_too_each_on_its_own_task(study: Study, content: StudyContent) -> None:
    found = {(row.chosen_on, row.task) for row in content.int8 if "random" in row.label}
    assert found == {(TWO[0], TWO[0]), (TWO[1], TWO[1]), (TOGETHER, TWO[0]), (TOGETHER, TWO[1])}
    random = the(study, "random", chosen_on=TWO[0])
    (row,) = (each for each in content.int8 if each.label == label(random))
    before, after = right(study, random, TWO[0]), right(study, random, TWO[0], "int8")
    assert row.comparison.difference == pytest.approx((sum(after) - sum(before)) / 80)


def test_probabilities_are_shares_of_the_networks_that_the_search_measured(content: StudyContent) -> None:
    for chosen_on in (*TWO, TOGETHER):
        rows = [row for row in content.depths if row.chosen_on == chosen_on]
        for low in (0, 25, 50, 75):
            group = [row for row in rows if row.low == low]
            assert sum(row.probability for row in group) == pytest.approx(1)
            assert {row.networks for row in group} == {3}
        layers = [row.layer for row in content.narrow if row.chosen_on == chosen_on]
        assert layers == list(range(30))


def test_the_fronts_are_those_of_the_searches_with_their_controls_and_speeds(content: StudyContent) -> None:
    assert [front.chosen_on for front in content.fronts] == [*TWO, TOGETHER]
    for front in content.fronts:
        assert [row.name for row in front.controls] == ["dense", "base"]
        assert bool(front.timed) == (front.chosen_on == content.timed_task)
        assert front.rows[0].true_times_smaller <= front.rows[-1].true_times_smaller


def test_the_whole_network_on_a_front_is_exactly_as_good_as_the_dense_one(content: StudyContent) -> None:
    whole = [
        row
        for front in content.fronts
        for row in front.rows
        if row.architecture == front.controls[0].architecture and row.versus_dense is not None
    ]
    assert whole
    for row in whole:
        assert row.versus_dense is not None
        assert (row.versus_dense.difference, row.versus_dense.interval) == (0, (0, 0))


def test_every_claim_is_judged_with_a_sentence_of_evidence(content: StudyContent) -> None:
    assert [claim.key for claim in content.claims] == [
        *("as-good-as-base", "no-loss", "beats-pruners", "beats-tuned-pruners", "no-recovery", "int8", "beats-random"),
        *("heuristic", "faster", "no-single-network"),
    ]
    for claim in content.claims:
        assert claim.evidence
        assert claim.statement in content.summary
        assert "nothing" not in claim.statement


def test_claims_that_something_is_no_worse_say_by_how_much_it_may_be(content: StudyContent) -> None:
    statements = {claim.key: claim.statement for claim in content.claims}
    for no_worse in ("as-good-as-base", "no-loss", "no-recovery", "int8", "heuristic"):
        assert "at most 2 points" in statements[no_worse]
    assert "as many layers and as many of each width" in statements["beats-random"]


def test_what_is_chosen_is_held_against_the_untouched_model_and_against_the_dense_one(
    study: Study, content: StudyContent
) -> None:
    for name, other in (("as-good-as-base", "base"), ("no-loss", "ours: dense")):
        (claim,) = (each for each in content.claims if each.key == name)
        assert [(each.task, each.other) for each in claim.comparisons] == [(task, other) for task in TWO]
        for compared in claim.comparisons:
            mine, theirs = (
                right(study, network, compared.task)
                for network in (the(study, "chosen", chosen_on=compared.task), the(study, other.split(": ")[-1]))
            )
            assert compared.difference == pytest.approx((sum(mine) - sum(theirs)) / 80)


def test_the_power_of_a_claim_is_that_of_its_rule(study: Study, content: StudyContent) -> None:
    claims = {claim.key: claim for claim in content.claims}
    count = sum(each.family == "claims" for each in content.comparisons)
    answers = StudyAnswers(study)
    beside = Beside(answers)
    (random,) = claims["beats-random"].comparisons
    pair = [beside.each_on_its_own(kind, "ours", 1.3) for kind in ("chosen", "random")]  # type: ignore[arg-type]
    assert pair[0] is not None
    assert pair[1] is not None
    of_mean = Difference.of_all(pair[0].answers, pair[1].answers)
    assert claims["beats-random"].detectable == pytest.approx(of_mean.detectable(0.05 / count))
    assert of_mean.detectable(0.05 / count) > random.detectable
    assert f"for {count} comparisons" in claims["beats-random"].power
    margins = []
    for task in TWO:
        difference = answers.difference(the(study, "chosen", chosen_on=task), the(study, "base"), task)
        assert difference is not None
        margins.append(difference.smallest_margin)
    assert claims["as-good-as-base"].smallest_margin == pytest.approx(max(margins))
    assert claims["as-good-as-base"].power.endswith(f"for equally good networks is {100 * max(margins):.1f} points")
    for claim in content.claims:
        assert (claim.detectable is None) or (claim.smallest_margin is None)


def test_the_smaller_network_is_faster_if_all_its_repeats_are(study: Study, content: StudyContent) -> None:
    (front,) = (each for each in content.fronts if each.timed)
    beside = Beside(StudyAnswers(study))
    dense = (100.0, 90.0, 110.0)

    def judged(*phases: tuple[float, float, float]) -> Claim:
        def at(row: FrontRow, prefill: tuple[float, ...], decode: tuple[float, ...]) -> FrontRow:
            return row.model_copy(
                update={"speed": SpeedRow(engine="e", device="d", prefill=prefill, decode=decode)}  # type: ignore[arg-type]
            )

        rows = tuple(at(row, *phases) for row in front.rows)
        controls = tuple(at(row, dense, dense) for row in front.controls)
        return faster(beside, front.model_copy(update={"rows": rows, "controls": controls}), (1.3,))

    clearly, within, exactly, below = (130.0, 120.0, 140.0), (120.0, 105.0, 140.0), dense, (80.0, 70.0, 90.0)
    assert judged(clearly, clearly).verdict == "holds"
    assert "prefill 1.30 times the dense one's (130 (120–140) against 100 (90–110) tokens/s)" in (
        judged(clearly, clearly).evidence
    )
    assert judged(clearly, within).verdict == judged(exactly, clearly).verdict == "can't be told"
    assert judged(clearly, below).verdict == "does not hold"
    nothing = front.model_copy(update={"rows": ()})
    assert faster(beside, nothing, (1.3,)).verdict == "can't be told"


def skilled(chosen: float, rivals: float) -> Answer:
    """What is measured where the super-network is so good, and the baselines are."""

    def answer(request: EvaluationRequest) -> Outcome:
        measured = answered(request)
        digest = request.checkpoint.digest
        skill = chosen if digest == "ours" else rivals
        scores = tuple(
            each.model_copy(
                update={"metrics": {"acc": tuple(float((7 * item) % 10 < 10 * skill) for item in each.items)}}
            )
            for each in measured.scores
        )
        return measured.model_copy(update={"scores": scores})

    return answer


def test_the_verdict_on_the_rivals_follows_from_who_is_better(tmp_path: Path) -> None:
    verdicts = {}
    for name, answer in (("better", skilled(0.8, 0.5)), ("worse", skilled(0.5, 0.8)), ("equal", skilled(0.6, 0.6))):
        claims = content_of(tmp_path / name, answer, together=False, candidates=2).claims
        verdicts[name] = {claim.key: claim.verdict for claim in claims}
    assert verdicts["better"]["beats-tuned-pruners"] == "holds"
    assert verdicts["worse"]["beats-tuned-pruners"] == "does not hold"
    assert verdicts["equal"]["beats-tuned-pruners"] == "can't be told"
    assert verdicts["better"]["no-recovery"] == "holds"
    assert verdicts["worse"]["no-recovery"] == "does not hold"


def test_one_network_that_is_as_good_on_every_task_refutes_that_each_task_needs_its_own(tmp_path: Path) -> None:
    tasks = [{"name": name, "search": {"items": 40}, "report": {"items": 400}} for name in TWO]
    claims = content_of(tmp_path, skilled(0.6, 0.5), tasks=tasks).claims
    (claim,) = (each for each in claims if each.key == "no-single-network")
    assert claim.verdict == "does not hold"


def sized(on_search: Callable[[str, float], float], on_report: Callable[[str, float], float]) -> Answer:
    """Measurements in which a network's accuracy on a task depends on its share of the whole one's parameters."""

    def answer(request: EvaluationRequest) -> Outcome:
        measured = answered(request)
        size = measured.parameters / parameters(SHAPE)
        scores = []
        for each, task in zip(measured.scores, request.spec.tasks, strict=True):
            accuracy = (on_report if task.split == "test" else on_search)(each.task, size)
            right = round(accuracy * len(each.items))
            answers = (1.0,) * right + (0.0,) * (len(each.items) - right)
            scores.append(each.model_copy(update={"metrics": {"acc": answers}}))
        return measured.model_copy(update={"scores": tuple(scores)})

    return answer


def test_a_larger_network_that_is_as_good_does_not_show_that_one_fits_all_nor_a_smaller_one_that_none_does(
    tmp_path: Path,
) -> None:
    tasks = [{"name": name, "search": {"items": 40}, "report": {"items": 400}} for name in TWO]

    def on_search(task: str, size: float) -> float:
        """The first task asks for large networks, the second for small ones."""
        return size if task == TWO[0] else 1 - size / 2

    content = content_of(
        tmp_path / "sizes",
        sized(on_search, lambda task, size: min(0.9, size) if task == TWO[0] else 0.7),
        tasks=tasks,
        together=False,
        sizes=[NO_NETWORK_OF_THE_SIZE],
    )
    (matrix,) = content.transfer
    large, small = (matrix.sizes[task].parameters for task in TWO)
    assert large is not None
    assert small is not None
    assert large > 1.02 * small
    compared = matrix.cell(TWO[0], TWO[1]).versus_own
    assert compared is not None
    assert compared.lower_bound > -content.margin
    worse = matrix.cell(TWO[1], TWO[0]).versus_own
    assert worse is not None
    assert worse.difference < 0
    assert worse.corrected < 0.05
    (claim,) = (each for each in content.claims if each.key == "no-single-network")
    assert claim.verdict == "can't be told"
    rows = read(tables(content)["transfer.csv"])
    assert [(int(row["parameters"]), int(row["own_parameters"])) for row in rows] == [
        (large, large),
        (large, small),
        (small, large),
        (small, small),
    ]


def test_the_same_network_chosen_on_two_tasks_is_exactly_as_good_as_itself_however_few_items_there_are(
    tmp_path: Path,
) -> None:
    answer = sized(lambda task, size: 1 - size / 2, lambda task, size: 0.6)
    content = content_of(tmp_path, answer, together=False, sizes=[NO_NETWORK_OF_THE_SIZE])
    (matrix,) = content.transfer
    assert len({size.parameters for size in matrix.sizes.values()}) == 1
    compared = matrix.cell(TWO[0], TWO[1]).versus_own
    assert compared is not None
    assert (compared.difference, compared.interval, compared.lower_bound, compared.p_value) == (0, (0, 0), 0, 1)
    assert compared.exact
    (claim,) = (each for each in content.claims if each.key == "no-single-network")
    assert claim.verdict == "does not hold"


def failing(kinds: str, task: str) -> Answer:
    """Measurements in which checkpoints whose names begin so fail on the report items of a task."""

    def answer(request: EvaluationRequest) -> Outcome | None:
        tasks = [each.task for each in request.spec.tasks]
        if request.checkpoint.digest.startswith(kinds) and tasks == [task]:
            return Failure(kind="out_of_memory", reason="too large")
        return answered(request)

    return answer


def test_a_baseline_that_failed_leaves_an_empty_cell_and_is_named(tmp_path: Path) -> None:
    content = content_of(tmp_path, failing("slicegpt", TWO[1]))
    (row,) = (each for each in content.networks if each.label == "slicegpt, 1.3x")
    assert list(row.by_task) == [TWO[0]]
    assert row.mean is None
    assert f"slicegpt, 1.3x on {TWO[1]}: out_of_memory, too large" in content.failures
    (claim,) = (each for each in content.claims if each.key == "beats-pruners")
    assert claim.verdict != "holds"
    assert "Not measured: slicegpt, 1.3x" in claim.evidence


def test_nothing_breaks_where_nothing_is_measured_on_the_report_items_yet(tmp_path: Path) -> None:
    def answer(request: EvaluationRequest) -> Outcome | None:
        splits = {task.split for task in request.spec.tasks}
        return None if "test" in splits else answered(request)

    content = content_of(tmp_path, answer)
    assert content.fronts == ()
    assert any("not measured on the report items yet" in failure for failure in content.failures)
    assert "base: not measured yet on arc_challenge, arc_easy" in content.failures
    assert {claim.verdict for claim in content.claims} == {"can't be told"}
    assert all(set(text.splitlines()[0]) for text in tables(content).values())


def test_content_is_the_same_after_it_was_written_as_json(content: StudyContent) -> None:
    assert StudyContent.model_validate_json(content.model_dump_json()) == content
    assert "NaN" not in json.dumps(json.loads(content.model_dump_json()))


def test_tables_hold_what_the_report_says_in_full_precision(content: StudyContent) -> None:
    read_back = {name: read(text) for name, text in tables(content).items()}
    assert len(read_back["comparisons.csv"]) == len(content.comparisons)
    for row, compared in zip(read_back["comparisons.csv"], content.comparisons, strict=True):
        assert (row["one"], row["other"], row["task"]) == (compared.one, compared.other, compared.task)
        assert float(row["difference_share"]) == compared.difference
        assert float(row["corrected_p_value"]) == compared.corrected
    assert [row["verdict"] for row in read_back["claims.csv"]] == [claim.verdict for claim in content.claims]
    assert len(read_back["int8.csv"]) == len(content.int8)
    assert len(read_back["depths.csv"]) == len(content.depths)
    assert len(read_back["narrow.csv"]) == len(content.narrow)
    assert len(read_back["transfer.csv"]) == len(content.transfer[0].cells)
    timed = [row for front in content.fronts for row in front.timed]
    assert [float(row["decode_median_tokens_per_second"]) for row in read_back["throughput.csv"]] == [
        row.speed.decode[0] for row in timed if row.speed
    ]
    cells = {(row["network"], row["task"]): row["accuracy_share"] for row in read_back["equal_size.csv"]}
    for name in content.equal_size[0].networks:
        network = content.network(name)
        for task in TWO:
            shown = cells.get((network.label, task)) or None
            assert (shown and float(shown)) == (network.by_task[task].accuracy if task in network.by_task else None)
        mean = cells.get((network.label, "mean")) or None
        assert (mean and float(mean)) == (network.mean and network.mean.accuracy)
    assert [row["winners_curse_bound_share"] for row in read_back["selected.csv"]] == [
        repr(row.curse.bound) for row in content.selected if row.curse
    ]


def test_what_was_not_measured_is_an_empty_field_and_never_zero(tmp_path: Path) -> None:
    content = content_of(tmp_path, failing("llm-pruner", TWO[0]))
    rows = read(tables(content)["equal_size.csv"])
    missing = [row for row in rows if row["network"] == "llm-pruner, 1.3x" and row["task"] in (TWO[0], "mean")]
    assert [row["accuracy_share"] for row in missing] == ["", ""]


def test_a_heuristic_that_is_larger_than_what_was_chosen_cannot_show_that_it_is_as_good(content: StudyContent) -> None:
    (claim,) = (each for each in content.claims if each.key == "heuristic")
    assert "more parameters" in claim.evidence
    assert claim.comparisons[0].lower_bound > -content.margin
    assert claim.verdict == "can't be told"
    assert claim.smallest_margin is None


def test_the_report_says_how_each_super_network_was_made_and_with_what_all_was_measured(content: StudyContent) -> None:
    provenance = dict(content.provenance)
    assert provenance["ours: Fine-tuned with"] == "torch of ours"
    assert provenance["Origin of training data"] == "made up"
    assert provenance["Version of torch"] == "2.13.0"
    assert provenance["Items of arc_easy, digest"] == "test"


def test_the_report_says_how_a_super_network_was_searched_that_has_a_search_of_its_own(tmp_path: Path) -> None:
    own = {**small_settings().supernets[0].model_dump(), "search": {"evaluations": 12, "population": 6, "seed": 3}}
    provenance = dict(content_of(tmp_path, answered, supernets=[own]).provenance)
    assert provenance["Strategy"] == "linas, in generations of 4"
    assert provenance["Strategy over ours"] == "linas, in generations of 6, seed 3"
