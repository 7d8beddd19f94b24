"""Structured logs: what happened is a fixed name, to whom are fields.

    log = logging.getLogger(__name__)
    with bound(search="mine", candidate=digest, attempt=1):
        log.info("evaluation finished", extra=fields(outcome="measurement", seconds=3.2))

On a terminal that is a line to read; elsewhere one JSON object a line, which a log store can filter by any field.
"""

import json
import logging
import math
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, TextIO

from shared.telemetry.repetition import RepetitionFilter
from shared.text import one_line

Format = Literal["auto", "json", "text"]

OURS = ("services", "shared")
"""Loggers that are heard from `info` on; all others are libraries' and heard from `warning` on."""

LOUD = ("gcsfs", "pika")
"""Libraries that log as errors what they also raise: where we handle it, we log it, under a name of ours."""

_bound: ContextVar[Mapping[str, object]] = ContextVar("bound", default={})  # noqa: B039  # a Mapping is never changed
_FIELDS = "nasfarm_fields"


def fields(**values: object) -> dict[str, object]:
    """The fields of one event, for `extra=` of a logging call.

    Wrapped, as logging refuses names that its records use themselves, such as `name` or `args`.
    """
    return {_FIELDS: values}


@contextmanager
def bound(**values: object) -> Iterator[None]:
    """Add fields to every event within, also of what is called; inner values go before outer ones.

    Holds for this thread. A thread started within begins with none: bind there again.
    """
    token = _bound.set({**_bound.get(), **values})
    try:
        yield
    finally:
        _bound.reset(token)


def configure_logs(log_format: Format = "auto", stream: TextIO | None = None) -> None:
    """Send the process's logs to `stream` (standard error), warnings of the `warnings` module among them.

    `auto` is text on a terminal, JSON elsewhere. As JSON, an exception that ends the process or a thread is an event.
    A warning or an error that repeats itself is given once a minute, with how often it was kept back: `repeated`.
    """
    output = stream or sys.stderr
    as_json = log_format == "json" or (log_format == "auto" and not output.isatty())
    handler = logging.StreamHandler(output)
    handler.addFilter(_bind)
    handler.addFilter(RepetitionFilter(_said, _note_repetitions))
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.captureWarnings(True)
    if as_json:
        sys.excepthook = _uncaught
        threading.excepthook = _uncaught_in_thread


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, event and logger, which no field replaces, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        own = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            own["exception"] = self.formatException(record.exc_info)
        return json.dumps(
            {**own, **{key: _plain(value) for key, value in _fields_of(record).items() if key not in own}}
        )


class TextFormatter(logging.Formatter):
    """A line to read: time, level where it isn't `info`, event, fields; a traceback on the lines below."""

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname}: "
        shown = "".join(f"  {key}={_word(value)}" for key, value in _fields_of(record).items())
        line = one_line(f"{self.formatTime(record, '%H:%M:%S')} {level}{record.getMessage()}{shown}")
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _bind(record: logging.LogRecord) -> bool:
    setattr(record, _FIELDS, {**_bound.get(), **_fields_of(record)})
    return True


def _said(record: logging.LogRecord) -> str:
    """What an event says, but for when."""
    error = record.exc_info[1] if record.exc_info else None
    return f"{record.getMessage()} {_fields_of(record)} {error!r}"


def _note_repetitions(record: logging.LogRecord, count: int) -> None:
    setattr(record, _FIELDS, {**_fields_of(record), "repeated": count})


def _fields_of(record: logging.LogRecord) -> Mapping[str, object]:
    found: Mapping[str, object] = getattr(record, _FIELDS, {})
    return found


def _plain(value: object) -> object:
    """A value as JSON has it; what JSON doesn't know becomes text."""
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return str(value)


def _word(value: object) -> str:
    """A value that reads as one word: quoted where it has spaces, quotes, line ends or nothing in it."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if text and text.isprintable() and not set(text) & set(" \"'=") else json.dumps(text)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logging.getLogger(__name__).critical("uncaught exception", exc_info=(kind, error, trace))


def _uncaught_in_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None:
        trace = (ended.exc_type, ended.exc_value, ended.exc_traceback)
        name = ended.thread.name if ended.thread else None
        logging.getLogger(__name__).critical("uncaught exception", exc_info=trace, extra=fields(thread=name))
