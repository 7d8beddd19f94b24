import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest

from shared.telemetry import repetition
from shared.telemetry.logs import bound, configure_logs, fields

log = logging.getLogger("services.of_a_test")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, levels = (
        root.handlers[:],
        {name: logging.getLogger(name).level for name in ("", "services", "shared", "pika")},
    )
    hooks = sys.excepthook, threading.excepthook
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    sys.excepthook, threading.excepthook = hooks
    logging.captureWarnings(False)


def events(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_of_json_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    configure_logs(stream=stream)
    log.info("evaluation finished", extra=fields(outcome="measurement", seconds=3.25, note="two\nlines", nothing=None))
    (event,) = events(stream)
    assert event.pop("time")
    assert event == {
        "level": "info",
        "event": "evaluation finished",
        "logger": "services.of_a_test",
        "outcome": "measurement",
        "seconds": 3.25,
        "note": "two\nlines",
        "nothing": None,
    }


def test_on_a_terminal_an_event_is_a_line_to_read() -> None:
    stream = Terminal()
    configure_logs(stream=stream)
    log.info("evaluation finished", extra=fields(outcome="measurement", seconds=3.123456789, note="two\nlines"))
    log.warning("connection lost")
    first, second = stream.getvalue().splitlines()
    assert first[9:] == 'evaluation finished  outcome=measurement  seconds=3.12346  note="two\\nlines"'
    assert second[9:] == "WARNING: connection lost"


def test_the_format_that_was_asked_for_is_used_wherever_the_log_goes() -> None:
    terminal, file = Terminal(), io.StringIO()
    configure_logs("json", terminal)
    log.info("on a terminal")
    configure_logs("text", file)
    log.info("in a file")
    assert events(terminal)[0]["event"] == "on a terminal"
    assert file.getvalue().endswith("in a file\n") and not file.getvalue().startswith("{")


def test_bound_fields_are_in_every_event_within_and_in_none_after() -> None:
    stream = io.StringIO()
    configure_logs(stream=stream)
    with bound(search="mine", attempt=1):
        with bound(candidate="ab12", attempt=2):
            log.info("inner", extra=fields(outcome="crashed"))
        log.info("outer")
    log.info("after")
    inner, outer, after = ({**event, "time": None} for event in events(stream))
    assert {key: inner.get(key) for key in ("search", "candidate", "attempt", "outcome")} == {
        "search": "mine",
        "candidate": "ab12",
        "attempt": 2,
        "outcome": "crashed",
    }
    assert (outer["search"], outer["attempt"], outer.get("candidate")) == ("mine", 1, None)
    assert "search" not in after


def test_threads_don_t_share_what_is_bound() -> None:
    stream = io.StringIO()
    configure_logs(stream=stream)
    with bound(search="mine"):
        thread = threading.Thread(target=log.info, args=("elsewhere",))
        thread.start()
        thread.join()
    assert "search" not in events(stream)[0]


def test_a_field_never_replaces_what_the_event_itself_says() -> None:
    stream = io.StringIO()
    configure_logs(stream=stream)
    with bound(event="forged"):
        log.info("true", extra=fields(level="critical", logger="other", name="allowed"))
    event = events(stream)[0]
    assert (event["event"], event["level"], event["logger"], event["name"]) == (
        "true",
        "info",
        "services.of_a_test",
        "allowed",
    )


def test_what_json_has_no_word_for_becomes_text() -> None:
    stream = io.StringIO()
    configure_logs(stream=stream)
    log.info("odd", extra=fields(nan=float("nan"), endless=float("inf"), kind=int, raw=b"x"))
    event = json.loads(stream.getvalue(), parse_constant=pytest.fail)
    assert (event["nan"], event["endless"], event["kind"], event["raw"]) == ("nan", "inf", "<class 'int'>", "b'x'")


def test_an_exception_stays_within_its_line() -> None:
    stream = io.StringIO()
    configure_logs(stream=stream)
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        log.exception("evaluation crashed")
    (event,) = events(stream)
    assert str(event["exception"]).endswith("ValueError: first\nsecond")


def test_libraries_are_heard_when_they_warn_and_pika_s_errors_not_at_all() -> None:
    stream = io.StringIO()
    configure_logs(stream=stream)
    logging.getLogger("library").info("chatter")
    logging.getLogger("library").warning("worth a line")
    logging.getLogger("pika.adapters").error("Socket failed to connect")
    warnings.showwarning(UserWarning("old usage"), UserWarning, "file.py", 1)
    heard = [str(event["event"]) for event in events(stream)]
    assert heard[0] == "worth a line" and "old usage" in heard[1] and len(heard) == 2


def test_an_exception_that_ends_a_thread_or_the_process_is_an_event_too() -> None:
    stream = io.StringIO()
    configure_logs(stream=stream)

    def fail() -> None:
        raise ValueError("in a thread")

    thread = threading.Thread(target=fail, name="worker")
    thread.start()
    thread.join()
    try:
        raise ValueError("in the process")
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    in_thread, in_process = events(stream)
    assert (in_thread["event"], in_thread["thread"], in_thread["level"]) == ("uncaught exception", "worker", "critical")
    assert str(in_process["exception"]).endswith("ValueError: in the process")


def test_an_error_that_repeats_itself_is_given_now_and_then_with_how_often(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    configure_logs(stream=stream)
    for broker in ("first", "first", "second", "first"):
        log.warning("no connection", extra=fields(broker=broker))
    monkeypatch.setattr(repetition, "SECONDS", 0.0)
    log.warning("no connection", extra=fields(broker="first"))
    given = [(event["broker"], event.get("repeated")) for event in events(stream)]
    assert given == [("first", None), ("second", None), ("first", 2)]
