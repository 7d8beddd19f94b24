import math

import pytest

from services.coordinator.search_announcer import announcing
from services.coordinator.search_metrics import SearchMetrics
from services.coordinator.search_status import RECENT, SearchStatus
from shared.announcements import SearchAnnouncement, latest
from shared.architecture import dense
from shared.broker import InProcessBroker
from shared.events import (
    CandidatesChosen,
    Event,
    Events,
    Failed,
    GenerationDone,
    InFlightChanged,
    Measured,
    ResultsReceived,
    SearchFinished,
    SearchStopped,
    StageBegan,
)
from shared.generation import GenerationRow
from shared.messages import REQUEST_VERSION, Failure, Outcome
from shared.telemetry.metrics import CoordinatorMetrics
from tests.support.scripted import FINAL, TRANSIENT, value
from tests.support.searches import SHAPE, pretend, small_plan

REQUEST = small_plan().request(dense(SHAPE), "search")
MEASURED = Measured(REQUEST, pretend(REQUEST))
ROW = GenerationRow(
    generation=2, evaluations=10, hypervolume=0.5, predictor="ridge", kendall_tau=0.75, mean_absolute_error=None
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def of_a_search(clock: Clock | None = None) -> tuple[Events, SearchStatus, CoordinatorMetrics]:
    metrics = CoordinatorMetrics(InProcessBroker())
    status = SearchStatus("small", "digest", clock or Clock())
    return Events(SearchMetrics(metrics), status), status, metrics


def failed(outcome: Outcome) -> Event:
    assert isinstance(outcome, Failure)
    return Failed(REQUEST, outcome)


def asked(number: int) -> Event:
    return CandidatesChosen(0, ((REQUEST, None),) * number)


def test_candidates_are_counted_by_state_and_told_with_the_kinds_of_failure() -> None:
    events, status, metrics = of_a_search()
    events.publish(StageBegan("search", 20))
    events.publish(asked(8))
    for event in (MEASURED, failed(FINAL), failed(TRANSIENT), failed(FINAL), InFlightChanged(3), GenerationDone(ROW)):
        events.publish(event)
    assert status.announcement() == SearchAnnouncement(
        requests=REQUEST_VERSION,
        sent_at=1000,
        name="small",
        supernet="digest",
        state="searching",
        planned=20,
        measured=1,
        failed={"infeasible": 2, "out_of_memory": 1},
        in_flight=3,
        hypervolume=0.5,
    )
    states = {state: value(metrics, "candidates", state=state) for state in ("asked", "measured", "failed")}
    assert states == {"asked": 4, "measured": 1, "failed": 3}
    assert (value(metrics, "candidates_planned"), value(metrics, "requests_in_flight")) == (20, 3)
    assert (value(metrics, "generation"), value(metrics, "hypervolume")) == (3, 0.5)
    assert value(metrics, "predictor_kendall_tau") == 0.75
    assert math.isnan(value(metrics, "predictor_mean_absolute_error") or 0.0)


def test_what_the_report_and_the_cost_table_measure_is_no_candidate() -> None:
    events, status, metrics = of_a_search()
    for event in (StageBegan("costs", 1), MEASURED):
        events.publish(event)
    assert (status.announcement().state, status.announcement().measured) == ("searching", 0)
    assert math.isnan(value(metrics, "candidates_planned") or 0.0)
    for event in (StageBegan("search", 1), asked(1), MEASURED, StageBegan("report", 7), failed(FINAL)):
        events.publish(event)
    told = status.announcement()
    assert (told.state, told.planned, told.measured, told.failed) == ("reporting", 7, 0, {"infeasible": 1})
    assert value(metrics, "candidates", state="measured") == 1 and value(metrics, "candidates", state="failed") == 0
    assert value(metrics, "candidates_planned") == 1


def test_the_time_left_follows_the_rate_of_the_last_results() -> None:
    clock = Clock()
    events, status, metrics = of_a_search(clock)
    events.publish(StageBegan("search", 2 * RECENT + 10))
    for seconds in [100.0] * RECENT + [3.0] * RECENT:
        assert (status.announcement().eta_seconds is None) == (metrics_count(metrics) < 2)
        clock.now += seconds
        events.publish(ResultsReceived(((REQUEST, pretend(REQUEST)),), 0.0))
        events.publish(MEASURED)
    assert status.announcement().eta_seconds == pytest.approx(10 * 3.0)
    clock.now += 3 * (RECENT - 1)  # nothing comes any more: slower and slower
    assert status.announcement().eta_seconds == pytest.approx(10 * 6.0)
    events.publish(StageBegan("report", 5))
    assert status.announcement().eta_seconds is None


def test_results_that_come_at_once_as_they_were_asked_for_together_are_not_taken_for_fast_ones() -> None:
    clock = Clock()
    events, status, _ = of_a_search(clock)
    events.publish(StageBegan("search", 108))
    events.publish(InFlightChanged(16))
    assert status.announcement().eta_seconds is None
    clock.now += 80
    events.publish(ResultsReceived(((REQUEST, pretend(REQUEST)),) * 8, 0.0))
    for _ in range(8):
        events.publish(MEASURED)
    assert status.announcement().eta_seconds == pytest.approx(100 * 10)


def test_a_resumed_search_does_not_take_what_it_knows_already_for_fast_results() -> None:
    events, status, _ = of_a_search()
    events.publish(StageBegan("search", 100))
    for _ in range(50):
        events.publish(MEASURED)
    assert status.announcement().measured == 50 and status.announcement().eta_seconds is None


def test_the_first_announcement_comes_at_once_and_the_last_says_that_the_search_is_finished() -> None:
    events, status, _ = of_a_search()
    broker = InProcessBroker()
    with announcing(broker, status):
        events.publish(SearchFinished())
    assert [each.state for body in broker.announced(60) for each in latest([body])] == ["searching", "finished"]


def test_a_search_that_was_stopped_is_announced_as_that() -> None:
    events, status, _ = of_a_search()
    broker = InProcessBroker()
    with announcing(broker, status):
        events.publish(SearchStopped())
    assert [each.state for each in latest(broker.announced(60))] == ["stopped"]


def metrics_count(metrics: CoordinatorMetrics) -> float:
    """Results stored so far."""
    return value(metrics, "result_handling_seconds_count") or 0.0
