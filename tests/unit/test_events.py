"""What happens in a search is published once, stored first, and told to whoever subscribed."""

import logging
from pathlib import Path

import pytest

from services.cli.search_display import SearchDisplay
from services.cli.search_log import SearchLog
from services.coordinator.history import History
from services.coordinator.recorder import HistoryRecorder
from services.coordinator.search import measure_costs, run_search
from shared.errors import UserError
from shared.events import (
    CandidatesChosen,
    Event,
    Events,
    Failed,
    GenerationDone,
    Measured,
    Noted,
    ResultsReceived,
    StageBegan,
    StepAdvanced,
    StepBegan,
    StepEnded,
)
from shared.messages import EvaluationRequest, Failure, Measurement
from shared.settings import metrics_by_task
from tests.support.searches import SERVED, pretend, pretending_farm, search, small_plan


def test_subscribers_are_told_in_order_and_who_stores_is_told_first() -> None:
    told: list[str] = []
    events = Events(lambda event: told.append("shown"))
    events.subscribe(lambda event: told.append("counted"))
    events.subscribe(lambda event: told.append("stored"), first=True)
    events.note("Model", "tiny")
    assert told == ["stored", "shown", "counted"]


def test_what_could_not_be_stored_is_told_to_nobody_else() -> None:
    told: list[Event] = []

    def full(event: Event) -> None:
        raise UserError("history.sqlite: disk full")

    with pytest.raises(UserError, match="disk full"):
        Events(full, told.append).note("Model", "tiny")
    assert told == []


def test_a_step_ends_however_it_is_left() -> None:
    told: list[Event] = []
    events = Events(told.append)

    def fails() -> None:
        with events.step("Reading", 9, "a file") as step:
            step.advance()
            step.advance("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert told == [StepBegan("Reading", 9, "a file"), StepAdvanced(1), StepAdvanced(2, "half"), StepEnded()]


def some_fail(request: EvaluationRequest) -> Measurement | Failure:
    if int(request.identity[:4], 16) % 4 == 0:
        return Failure(kind="infeasible", reason="too deep")
    return pretend(request)


def test_a_search_publishes_each_thing_once_and_its_history_can_be_told_from_what_it_published(tmp_path: Path) -> None:
    plan = small_plan(SERVED)
    told: list[Event] = []
    events, history = Events(told.append), History.create_or_resume(tmp_path / "history.sqlite", plan.about())
    with pretending_farm(plan, history, some_fail, events) as (dispatcher, _):
        run_search(plan, measure_costs(plan, history, dispatcher, events), history, dispatcher, events)
    stages = [event.stage for event in told if isinstance(event, StageBegan)]
    assert stages == ["costs", "search"]
    searched = told[
        told.index(next(event for event in told if isinstance(event, StageBegan) and event.planned == 20)) :
    ]
    outcomes = [event for event in searched if isinstance(event, Measured | Failed)]
    assert len({event.request.identity for event in outcomes}) == len(outcomes) == 20
    assert any(isinstance(event, Failed) for event in outcomes)
    chosen = [one for event in told if isinstance(event, CandidatesChosen) for one in event.candidates]
    assert [request.identity for request, _ in chosen] == [one.identity for one in history.candidates()]
    assert [predicted for _, predicted in chosen] == [one.predicted for one in history.candidates()]
    assert [event.row for event in told if isinstance(event, GenerationDone)] == history.generations()
    copy = History.create_or_resume(tmp_path / "copy.sqlite", plan.about())
    for event in told:
        HistoryRecorder(copy)(event)
    assert (copy.candidates(), copy.generations()) == (history.candidates(), history.generations())
    assert all(copy.outcome(request.identity) == history.outcome(request.identity) for request, _ in chosen)


def test_a_resumed_search_publishes_what_was_measured_before_but_stores_nothing_again(tmp_path: Path) -> None:
    plan = small_plan()
    search(plan, tmp_path / "history.sqlite")
    told: list[Event] = []
    events, history = Events(told.append), History.create_or_resume(tmp_path / "history.sqlite", plan.about())
    with pretending_farm(plan, history, some_fail, events) as (dispatcher, seen):
        run_search(plan, measure_costs(plan, history, dispatcher, events), history, dispatcher, events)
    assert seen == [] and not any(isinstance(event, ResultsReceived) for event in told)
    assert sum(isinstance(event, Measured) for event in told) == len(history.candidates()) == 20


def test_the_terminal_shows_stages_costs_and_generations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = small_plan(SERVED)
    history = History.create_or_resume(tmp_path / "history.sqlite", plan.about())
    with SearchDisplay(metrics_by_task(plan.settings.tasks)) as display:
        events = Events(display)
        with pretending_farm(plan, history, some_fail, events) as (dispatcher, _):
            run_search(plan, measure_costs(plan, history, dispatcher, events), history, dispatcher, events)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("Cost table ") for line in lines) == 2
    assert [line.split(":")[0] for line in lines if line.startswith("Gen")] == [f"Generation {n}" for n in range(3)]
    assert any(line.startswith("Search         20 of 20 (100 %)") for line in lines)


def test_the_log_of_a_service_has_an_event_for_each_generation_and_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = small_plan()
    history = History.create_or_resume(tmp_path / "history.sqlite", plan.about())
    events = Events(SearchLog())
    with caplog.at_level(logging.INFO), pretending_farm(plan, history, some_fail, events) as (dispatcher, _):
        run_search(plan, measure_costs(plan, history, dispatcher, events), history, dispatcher, events)
        events.publish(StageBegan("report", 3))
    said = [record.getMessage() for record in caplog.records if record.name == "services.cli.search_log"]
    failed = [one for one in history.candidates() if isinstance(history.outcome(one.identity), Failure)]
    assert said.count("generation done") == 3
    assert said.count("network failed") == len(failed) > 0
    assert said[-1] == "networks measured"


def test_a_note_without_a_subject_continues_the_one_before(capsys: pytest.CaptureFixture[str]) -> None:
    from services.cli.preparation_display import PreparationDisplay

    with PreparationDisplay() as display:
        for note in (Noted("Training data", "alpaca, 3 examples"), Noted("", "1 row left out")):
            display(note)
    assert capsys.readouterr().out == "Training data  alpaca, 3 examples\n               1 row left out\n"
