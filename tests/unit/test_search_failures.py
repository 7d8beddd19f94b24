"""What fails in a search and at its end, and what the next run does about it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from services.coordinator.history import History
from services.coordinator.results import evaluated_so_far, front
from services.reporting.report_files import write_report
from shared.architecture import dense
from shared.errors import UserError
from shared.messages import EvaluationRequest, Failure, FailureKind, Measurement
from tests.support.searches import (
    SHAPE,
    Answer,
    after,
    pretend,
    search,
    small_plan,
)


def test_a_failure_that_may_end_better_is_tried_again_by_the_next_run(tmp_path: Path) -> None:
    def short_of_memory(request: EvaluationRequest) -> Failure:
        return Failure(kind="out_of_memory", reason="too little")

    search(small_plan(evaluations=8), tmp_path / "h.sqlite", after(7, short_of_memory))
    _, seen, _, history = search(small_plan(evaluations=8), tmp_path / "h.sqlite")
    assert seen == [history.candidates()[7].identity]
    assert len(evaluated_so_far(small_plan(evaluations=8), history)) == 8


def test_failed_networks_are_kept_with_their_reason_and_the_search_goes_on(tmp_path: Path) -> None:
    def refuse_shallow(request: EvaluationRequest) -> Measurement | Failure:
        if request.architecture.depth == 6 and request.spec.tasks[0].split == "validation":
            return Failure(kind="out_of_memory", reason="too little")
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
            lambda _: Failure(kind="crashed", reason="broken"),
        )


def failing(kind: FailureKind, *which: Callable[[EvaluationRequest], bool]) -> Answer:
    """Fails at some requests in this way, as an evaluator of too little memory does."""
    failure = Failure(kind=kind, reason="too large")
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
    assert f"N1, left out of the front: {kind}, too large" in content.failures
    _, seen, _, history = search(plan, path, report=True)
    assert seen == [largest]
    repaired, whole = (write_report(plan, each, undisturbed, tmp_path) for each in (history, other))
    assert repaired.front == whole.front and repaired.failures == ()


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
    failure = Failure(kind=kind, reason="too large")
    chosen, _, observer, history = search(plan, path, after(16, lambda request: failure))
    assert [row.evaluations for row in observer.generations] == [8, 16, 17]
    assert chosen == front(evaluated_so_far(plan, history))


@pytest.mark.parametrize(("kind", "goes_on"), [("timed_out", False), ("infeasible", True)])
def test_another_generation_of_which_everything_fails_ends_it_unless_the_networks_are_to_blame(
    tmp_path: Path, kind: FailureKind, goes_on: bool
) -> None:
    plan, path = small_plan(), tmp_path / "h.sqlite"
    failure, numbers = Failure(kind=kind, reason="broken"), iter(range(10**6))
    second: Answer = lambda request: failure if 8 <= next(numbers) < 16 else pretend(request)  # noqa: E731
    if goes_on:
        assert search(plan, path, second)[2].generations[-1].evaluations == 20
        return
    with pytest.raises(UserError, match=r"generation 1: every network .*timed_out: broken; .* tries them again"):
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
