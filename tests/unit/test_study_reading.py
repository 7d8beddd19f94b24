"""Which of a study's searches have come to their end."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from services.application.run_directory import RunDirectory
from services.application.study.reading import difference_of_search, is_finished
from services.coordinator.history import History
from services.coordinator.plan import SearchPlan
from shared.errors import UserError
from shared.messages import EvaluationRequest, Failure, FailureKind
from tests.support.pretending import pretend
from tests.support.searches import Answer, after, only, search, small_plan

REPORTED = {"reporting": {"networks": 3}}


def searched(run: RunDirectory, plan: SearchPlan, answer: Answer = pretend) -> None:
    """A search's run as it is when its report is written."""
    run.path.mkdir(parents=True, exist_ok=True)
    run.record(plan.settings)
    *_, history = search(plan, run.history, answer, report=True)
    history.close()
    run.report.touch()


def failing(kind: FailureKind) -> Answer:
    """Whatever is asked in INT8 fails."""
    return only(in_int8, lambda request: Failure(kind=kind, reason="no"))


def in_int8(request: EvaluationRequest) -> bool:
    return request.architecture.quantization == "int8"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "small")


def test_a_search_with_all_measurements_and_its_report_is_finished(run: RunDirectory) -> None:
    plan = small_plan(REPORTED)
    assert not is_finished(run, plan.settings)
    searched(run, plan)
    assert is_finished(run, plan.settings)
    run.report.unlink()
    assert not is_finished(run, plan.settings)
    run.report.touch()
    run.history.unlink()
    assert not is_finished(run, plan.settings)


@pytest.mark.parametrize(
    ("changes", "evaluations"),
    [({}, 30), ({"reporting": {"networks": 6}}, 20), ({"reporting": {"networks": 3, "random": True}}, 20)],
)
def test_a_search_that_is_given_more_to_measure_is_not_finished_until_that_is_measured_too(
    run: RunDirectory, changes: dict[str, Any], evaluations: int
) -> None:
    searched(run, small_plan(REPORTED))
    more = small_plan({**REPORTED, **changes}, evaluations=evaluations)
    assert not is_finished(run, more.settings)
    run.record(more.settings)  # as a search does before it measures
    assert not is_finished(run, more.settings)
    searched(run, more)
    assert is_finished(run, more.settings)


def test_a_search_that_ended_while_it_got_further_networks_is_not_finished(run: RunDirectory) -> None:
    searched(run, small_plan(REPORTED))
    more = small_plan(REPORTED, evaluations=30)
    run.record(more.settings)
    with pytest.raises(UserError, match="the end"):
        search(more, run.history, after(5, lambda request: Failure(kind="bad_request", reason="the end")))
    assert not is_finished(run, more.settings)


@pytest.mark.parametrize(
    ("kind", "finished"),
    [("out_of_memory", False), ("timed_out", False), ("unavailable", False), ("infeasible", True)],
)
def test_a_search_whose_report_lacks_what_may_be_measured_yet_is_not_finished(
    run: RunDirectory, kind: FailureKind, finished: bool
) -> None:
    plan = small_plan({**REPORTED, "remeasure_int8": True})
    searched(run, plan, failing(kind))
    assert is_finished(run, plan.settings) is finished
    searched(run, plan)  # which tries every failure again
    assert is_finished(run, plan.settings)


def test_networks_that_failed_while_they_were_searched_are_no_reason_to_search_again(run: RunDirectory) -> None:
    plan = small_plan(REPORTED)
    searched(run, plan, only(has_seven_layers, lambda request: Failure(kind="timed_out", reason="no")))
    with closing(History.read(run.history)) as history:
        outcomes = [history.outcome(candidate.identity) for candidate in history.candidates()]
    assert any(isinstance(outcome, Failure) for outcome in outcomes)
    assert is_finished(run, plan.settings)


def test_a_search_that_began_with_other_depth_rules_is_told_from_one_that_goes_on(tmp_path: Path) -> None:
    began = small_plan({"space": {"depth_rule": ["first", "importance"]}})
    with closing(History.create_or_resume(tmp_path / "history.sqlite", began.about())) as history:
        assert difference_of_search(history, began.settings, "base", "supernet") is None
        asked = small_plan({"space": {"depth_rule": ["first"]}}).settings
        found = difference_of_search(history, asked, "base", "supernet")
    assert found == "space.depth_rule was first or importance, now first"


def has_seven_layers(request: EvaluationRequest) -> bool:
    return request.architecture.depth == 7
