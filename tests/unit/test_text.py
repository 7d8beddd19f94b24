"""What others made up is shown as it is, and does nothing to the terminal."""

import io
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from services.cli import watching
from services.cli.console import PlainConsole
from services.cli.watching import FarmStatus
from shared.announcements import EvaluatorAnnouncement, SearchAnnouncement, latest
from shared.text import one_line, printable

HOSTILE = "[/] [bold]x[/bold] :smile: \x1b[2J\x1b]0;title\x07 \x9b31m \u202e \r up"


def shown(*what: str | Text | Table) -> str:
    output = io.StringIO()
    PlainConsole(file=output, force_terminal=True, width=500, highlight=False, color_system=None).print(*what)
    return output.getvalue()


def harmless(text: str) -> bool:
    return not any(each in text for each in "\x1b\x07\x9b\u202e\r")


@given(st.text(st.characters(exclude_categories=())))
def test_text_from_elsewhere_has_no_control_characters_and_keeps_its_length(text: str) -> None:
    assert len(printable(text)) == len(text)
    assert harmless(printable(text)) and "\n" not in one_line(text)
    one_line(text).encode()  # and no half of a character


@pytest.mark.parametrize("name", ["arc-easy [v2]", "Größe 模型", "a/b c", "[/]"])
def test_text_that_can_be_seen_stays_as_it_is(name: str) -> None:
    assert printable(name) == one_line(name) == name
    assert shown(f"Run            {name}") == f"Run            {name}\n"


def test_neither_lines_nor_tables_are_markup_or_move_the_cursor() -> None:
    table = Table("Name", HOSTILE)
    table.add_row(HOSTILE, "[/]")
    for output in (shown(HOSTILE), shown(table)):
        assert harmless(output) and "[/] [bold]x[/bold] :smile:" in output


def test_one_bad_announcement_does_not_hide_the_others() -> None:
    now = time.time()
    good = SearchAnnouncement(sent_at=now, name="good", supernet="abc", state="searching", planned=9, measured=4)
    bad = good.model_copy(update={"name": HOSTILE, "failed": {"[/]": 1, "\x1b[31m": 2}, "eta_seconds": 1e308})
    evaluator = EvaluatorAnnouncement(
        sent_at=now, name="[/]", supernet="[/]", device=HOSTILE, state="computing", since=-1e308, search=HOSTILE
    )
    bodies = [each.model_dump_json().encode() for each in (bad, evaluator, good)]
    heard = latest([b"\xff", *bodies, b"[" * 100_000, b'{"kind": "search", "name": "\\ud800"}'])
    searches = tuple(each for each in heard if isinstance(each, SearchAnnouncement))
    evaluators = tuple(each for each in heard if isinstance(each, EvaluatorAnnouncement))
    status = FarmStatus(now, searches, evaluators, {"requests.abc": None})
    tables = [watching._searches(status), watching._evaluators(status), watching._queues(status)]
    output = shown(*tables)
    assert harmless(output) and "good" in output and "4 of 9" in output and "2 �[31m" in output
