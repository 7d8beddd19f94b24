"""How stages of a command show that they get on, where there is no terminal: few lines, and enough of them."""

import io
import re
import time
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.application.checkpoint_content import content_of
from services.application.evaluation import WAITING, evaluated
from services.cli import progress_bars as stages
from services.cli.console import PlainConsole
from services.cli.preparation_display import PreparationDisplay
from services.cli.progress_bars import LEAST_SECONDS, LINE_SECONDS, Bar, Lines, Pace
from services.evaluator.evaluator import Evaluator
from services.evaluator.progress_callback import ProgressCallback
from shared import checkpoint_files
from shared.checkpoint_files import FileDigests
from shared.digest import digest_file
from shared.events import Event, Events
from shared.messages import EvaluationRequest, EvaluationResult, EvaluationSpec, Failure, SpeedSpec, Workload
from tests.support.searches import pretend, small_plan

PLAN = small_plan()


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def lines(total: int | None, clock: Clock, note: str = "") -> tuple[Lines, list[str]]:
    told: list[str] = []
    return Lines("Search", total, note, told.append, clock=clock), told


def test_every_tenth_of_a_stage_is_told_with_the_time_that_is_left() -> None:
    clock = Clock()
    stage, told = lines(200, clock)
    for _ in range(200):
        clock.now += 1.0
        stage.advance("4 layers")
        stage.tick()
    stage.ends()
    assert len(told) == 10
    assert told[0] == "Search         20 of 200 (10 %), about 3 min left; 4 layers"
    assert told[-1] == "Search         200 of 200 (100 %), 3 min in all; 4 layers"


def test_a_stage_whose_steps_take_long_is_told_of_every_half_minute() -> None:
    clock = Clock()
    stage, told = lines(4, clock, "loading")
    for second in range(1, 401):
        clock.now += 1.0
        stage.tick()
        if second % 100 == 0:
            stage.advance("one more")
    assert told[0] == "Search         0 of 4 (0 %), 30 s so far; loading"
    assert told[4] == "Search         1 of 4 (25 %), 2 min so far; one more"
    assert "about 2 min left" in told[-4]
    assert 400 / LINE_SECONDS - 1 <= len(told) <= 400 / LINE_SECONDS + 4


def test_a_stage_that_is_gone_on_with_counts_its_own_pace_only() -> None:
    clock = Clock()
    stage, told = lines(1000, clock)
    for done in range(900, 921):
        clock.now += 2.0
        stage.reach(done)
    assert told[0].startswith("Search         900 of 1,000 (90 %), 2 s so far")
    clock.now += LINE_SECONDS
    stage.tick()
    assert "920 of 1,000 (92 %), about 5 min left" in told[-1]


def test_what_is_not_counted_is_told_of_only_if_it_takes_long() -> None:
    clock = Clock()
    stage, told = lines(None, clock, "fetching")
    for _ in range(75):
        clock.now += 1.0
        stage.tick()
    stage.ends()
    assert told == ["Search         fetching, 30 s so far", "Search         fetching, 60 s so far"]
    stage, told = lines(None, clock, "fetching")
    stage.ends()
    assert told == []


@given(st.lists(st.floats(0, 100), min_size=1, max_size=300))
def test_however_a_stage_gets_on_its_lines_are_few_and_not_close_together_and_the_last_step_is_told(
    pauses: list[float],
) -> None:
    clock, at = Clock(), list[float]()
    stage = Lines("Search", len(pauses), "", lambda _: at.append(clock.now), clock=clock)
    told: list[str] = []
    for pause in pauses:
        clock.now += pause
        stage.tick()
        stage.advance()
    before = len(at)
    stage._emit = told.append
    stage.ends()
    if told:
        assert f"{len(pauses)} of {len(pauses)} (100 %)" in told[0]
    assert before <= 10 + sum(pauses) / LINE_SECONDS
    assert all(after - earlier >= LEAST_SECONDS for earlier, after in pairwise(at))


def test_of_a_stage_no_more_than_all_is_done_and_a_note_stays_until_another_replaces_it() -> None:
    clock = Clock()
    stage, told = lines(4, clock)
    stage.reach(0, "waiting")
    clock.now += LINE_SECONDS
    stage.tick()
    for note in (None, ""):
        stage.advance(note)
        clock.now += LINE_SECONDS
        stage.tick()
    for _ in range(90):
        stage.advance()
    stage.ends()
    assert [line.removeprefix("Search         ") for line in told] == [
        "0 of 4 (0 %), 30 s so far; waiting",
        "1 of 4 (25 %), about 3 min left; waiting",
        "2 of 4 (50 %), about 2 min left",
        "4 of 4 (100 %), 2 min in all",
    ]


def test_a_bar_shows_no_more_than_all(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    monkeypatch.setattr(stages, "console", PlainConsole(file=output, width=100, force_terminal=True))
    with stages.stage("Measuring", 4) as shown:
        shown.reach(92, "waiting")
        shown.reach(92, "")
    last = output.getvalue().split("Measuring")[-1]
    assert "4/4" in last and "92" not in last and "waiting" not in last


def test_a_bar_does_not_take_steps_that_come_at_once_for_fast_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    output, clock = io.StringIO(), Clock()
    monkeypatch.setattr(stages, "console", PlainConsole(file=output, width=100, force_terminal=True))
    with Bar("Search", 109, "", clock=clock) as shown:
        shown.advance()
        for _ in range(3):
            clock.now += 100
            for _ in range(8):
                clock.now += 0.002
                shown.advance()
    last = output.getvalue().split("Search")[-1]
    assert "25/109" in last and "0:17:30" in last  # 84 left, of which eight take 100 s


def test_what_a_bar_says_of_names_from_elsewhere_moves_no_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    monkeypatch.setattr(stages, "console", PlainConsole(file=output, width=100, force_terminal=True))
    with stages.stage("[b]Reading", 4, "[i]a\x1b]0;title\x07") as shown:
        shown.reach(1, "[i]b\x1b[2J\n")
    written = output.getvalue()
    assert "[b]Reading" in written and "[i]b�[2J" in written
    assert "\x1b[2J" not in written and "\x1b]0" not in written


@pytest.mark.parametrize("measured", [True, False])
def test_a_measurement_that_waits_for_another_evaluator_says_so_and_counts_no_steps_meanwhile(
    measured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(stages, "TICK_SECONDS", 0.001)
    monkeypatch.setattr(stages, "LINE_SECONDS", 0.0)
    monkeypatch.setattr("services.cli.progress_bars.console.print", told.append)
    speed = SpeedSpec(engine="torch", workload=Workload(), repeats=7)
    request = PLAN.request(PLAN.space.largest(), "search")
    request = request.model_copy(update={"spec": EvaluationSpec(dtype="float32", speed=speed)})

    class Busy:
        """An evaluator of a machine that another one has at first."""

        def evaluate(
            self, request: EvaluationRequest, progressed: ProgressCallback, waiting: ProgressCallback
        ) -> EvaluationResult:
            deadline = time.monotonic() + 60
            while not any("waiting" in line for line in told):
                assert time.monotonic() < deadline
                waiting()
            progressed()
            while "waiting" in told[-1]:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            failure = Failure(kind="infeasible", reason="too deep")
            outcome = pretend(request) if measured else failure
            return EvaluationResult(identity=request.identity, search=request.search, outcome=outcome)

    with PreparationDisplay() as display:
        evaluated(cast(Evaluator, Busy()), request, Events(display))
    counts = [line.split("(")[0].split(maxsplit=1)[1] for line in told]
    waits = [count for line, count in zip(told, counts, strict=True) if line.endswith(f"; {WAITING}")]
    assert set(waits) == {"0 of 10 "}
    assert counts[-1] == ("10 of 10 " if measured else "1 of 10 ")


def test_a_pace_is_that_of_the_latest_steps() -> None:
    clock = Clock()
    pace = Pace(300, clock)
    assert pace.seconds_left is None
    for done in range(1, 201):
        clock.now += 0.01 if done <= 100 else 10.0  # what was measured before an interruption comes at once
        pace.reach(done)
    assert pace.seconds_left == pytest.approx(1000)


def test_what_comes_before_the_first_step_doesnt_slow_the_pace_down() -> None:
    clock = Clock()
    pace = Pace(65, clock)
    for _ in range(7):  # as where layers are ordered before anything is trained
        pace.reach(0)
        clock.now += 30.0
    assert pace.seconds_left is None
    pace.reach(0)
    for done in range(1, 6):
        clock.now += 4.0
        pace.reach(done)
    assert pace.seconds_left == pytest.approx(60 * 4)


def test_reading_a_large_file_for_its_digest_is_told_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_files, "LARGE_BYTES", 1000)
    (tmp_path / "model.safetensors").write_bytes(b"x" * 3_500_000)
    (tmp_path / "config.json").write_text("{}")
    told: list[str] = []
    monkeypatch.setattr("services.cli.progress_bars.console.print", told.append)
    digests = FileDigests(tmp_path / "cache")
    with PreparationDisplay() as display:
        files = content_of(tmp_path, digests, Events(display))
    assert files["model.safetensors"] == digest_file(tmp_path / "model.safetensors")
    assert re.fullmatch(rf"Reading        3\.50\sMB of 3\.50\sMB \(100 %\), \d+ s in all; {tmp_path}", told[-1])
    digests.remember(tmp_path / "model.safetensors", files["model.safetensors"])
    published: list[Event] = []  # what is remembered is not read again, nor shown
    assert content_of(tmp_path, digests, Events(published.append)) == files
    assert published == []
