"""Errors that come in a loop."""

import logging
from collections.abc import Iterator

import pytest

from shared.telemetry.repetition import REMEMBERED, SECONDS, RepetitionFilter

log = logging.getLogger("services.of_a_test")


class Clock:
    """A clock that a test turns."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def heard(clock: Clock) -> Iterator[list[str]]:
    """What gets through, as `message` or `message (times)`."""
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            times = getattr(record, "times", 0)
            lines.append(f"{record.getMessage()} ({times})" if times else record.getMessage())

    def tell(record: logging.LogRecord, count: int) -> None:
        record.times = count

    handler = Handler()
    handler.addFilter(RepetitionFilter(logging.LogRecord.getMessage, tell, clock))
    log.addHandler(handler)
    level = log.level
    log.setLevel(logging.INFO)
    yield lines
    log.removeHandler(handler)
    log.setLevel(level)


def test_an_error_in_a_loop_is_said_once_a_minute_with_how_often(heard: list[str], clock: Clock) -> None:
    for _ in range(5 * 130):  # five times a second, as the supervisor looks at its file
        log.error("%s: damaged", "farm.json")
        clock.now += 0.2
    assert heard == ["farm.json: damaged", "farm.json: damaged (299)", "farm.json: damaged (299)"]


def test_what_is_different_is_said_each_time(heard: list[str]) -> None:
    for number in range(3):
        log.warning("program %d", number)
    log.error("program 0")
    assert heard == ["program 0", "program 1", "program 2", "program 0"]


def test_what_is_no_warning_is_never_kept_back(heard: list[str]) -> None:
    for _ in range(3):
        log.info("evaluation finished")
    assert heard == 3 * ["evaluation finished"]


def test_one_that_comes_again_after_a_silence_is_said_at_once(heard: list[str], clock: Clock) -> None:
    log.error("lost")
    clock.now += SECONDS
    log.error("lost")
    assert heard == ["lost", "lost"]


def test_only_so_many_are_remembered(heard: list[str]) -> None:
    for number in range(REMEMBERED + 1):
        log.error("error %d", number)
    log.error("error %d", REMEMBERED)
    log.error("error 0")
    assert heard[-2:] == [f"error {REMEMBERED}", "error 0"]
