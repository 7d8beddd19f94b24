import math

import pytest

from services.coordinator.announcing import announcing
from services.coordinator.progress import RECENT, Progress
from shared.announcements import SearchAnnouncement, latest
from shared.architecture import dense
from shared.broker import InProcessBroker
from shared.generation import GenerationRow
from shared.messages import REQUEST_VERSION, EvaluationRequest, Outcome
from shared.telemetry.metrics import CoordinatorMetrics
from tests.support.scripted import FINAL, TRANSIENT, value
from tests.support.searches import SHAPE, pretend, small_plan

REQUEST = small_plan().request(dense(SHAPE), "search")
ROW = GenerationRow(
    generation=2, evaluations=10, hypervolume=0.5, predictor="ridge", kendall_tau=0.75, mean_absolute_error=None
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def of_a_search(clock: Clock | None = None) -> tuple[Progress, CoordinatorMetrics]:
    metrics = CoordinatorMetrics(InProcessBroker())
    return Progress("small", "digest", metrics, clock or Clock()), metrics


def test_candidates_are_counted_by_state_and_told_with_the_kinds_of_failure() -> None:
    progress, metrics = of_a_search()
    progress.begins("searching", 20)
    progress.asked(8)
    seen: list[Outcome] = []
    counting = progress.counting(lambda request, outcome: seen.append(outcome))
    for outcome in (pretend(REQUEST), FINAL, TRANSIENT, FINAL):
        counting(REQUEST, outcome)
    progress.in_flight(3)
    progress.generation_done(ROW)
    assert seen == [pretend(REQUEST), FINAL, TRANSIENT, FINAL]
    assert progress.announcement() == SearchAnnouncement(
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


def test_what_the_report_measures_is_told_but_is_no_candidate() -> None:
    progress, metrics = of_a_search()
    progress.begins("searching", 1)
    progress.asked(1)
    progress.counting(ignored)(REQUEST, pretend(REQUEST))
    progress.begins("reporting", 7)
    progress.counting(ignored)(REQUEST, FINAL)
    told = progress.announcement()
    assert (told.state, told.planned, told.measured, told.failed) == ("reporting", 7, 0, {"infeasible": 1})
    assert value(metrics, "candidates", state="measured") == 1 and value(metrics, "candidates", state="failed") == 0
    assert value(metrics, "candidates_planned") == 1


def test_the_time_left_follows_the_rate_of_the_last_results() -> None:
    clock = Clock()
    progress, metrics = of_a_search(clock)
    progress.begins("searching", 2 * RECENT + 10)
    counting = progress.counting(ignored)
    for seconds in [100.0] * RECENT + [3.0] * RECENT:
        assert (progress.announcement().eta_seconds is None) == (metrics_count(metrics) < 2)
        clock.now += seconds
        counting(REQUEST, pretend(REQUEST))
        progress.stored(1, 0.01)
    assert progress.announcement().eta_seconds == pytest.approx(10 * 3.0)
    clock.now += 3 * (RECENT - 1)  # nothing comes any more: slower and slower
    assert progress.announcement().eta_seconds == pytest.approx(10 * 6.0)
    progress.begins("reporting", 5)
    assert progress.announcement().eta_seconds is None


def test_a_search_that_goes_on_does_not_take_what_it_knows_already_for_fast_results() -> None:
    progress, _ = of_a_search()
    progress.begins("searching", 100)
    for _ in range(50):
        progress.counting(ignored)(REQUEST, pretend(REQUEST))
    assert progress.announcement().measured == 50 and progress.announcement().eta_seconds is None


def test_the_first_announcement_comes_at_once_and_the_last_says_that_the_search_is_finished() -> None:
    progress, broker = of_a_search()[0], InProcessBroker()
    with announcing(broker, progress):
        pass
    assert [each.state for body in broker.announced(60) for each in latest([body])] == ["searching", "finished"]


def test_a_search_that_an_exception_ends_is_announced_as_stopped() -> None:
    progress, broker = of_a_search()[0], InProcessBroker()
    with pytest.raises(KeyboardInterrupt), announcing(broker, progress):
        raise KeyboardInterrupt
    assert [each.state for each in latest(broker.announced(60))] == ["stopped"]


def ignored(request: EvaluationRequest, outcome: Outcome) -> None:
    """Nobody wants to know."""


def metrics_count(metrics: CoordinatorMetrics) -> float:
    """Results stored so far."""
    return value(metrics, "result_handling_seconds_count") or 0.0
