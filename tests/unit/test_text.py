"""What others made up is shown as it is, and does nothing to the terminal."""

import io
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from services.application.farm_status import FarmStatus
from services.cli import farm_status_view as farm_status
from services.cli.console import PlainConsole
from shared.announcements import EvaluatorAnnouncement, SearchAnnouncement, latest
from shared.text import LONGEST_LINE, LONGEST_SHOWN, one_line, printable
from shared.text import shown as spelt

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.dates()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner), st.tuples(inner, inner)),
)
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


@given(VALUES)
def test_a_value_is_shown_on_one_short_line(value: object) -> None:
    assert len(spelt(value)) <= LONGEST_SHOWN + len("...")
    assert "\n" not in spelt(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x" * 100_000, f"'{'x' * (LONGEST_SHOWN - 1)}..."),
        ({"b": [1, 2.5, None], "a": "c"}, "{'b': [1, 2.5, None], 'a': 'c'}"),
        (10**5000, "a number of about 5000 digits"),
        ([[[[1]]]], "[[[[...]]]]"),
        (12, "12"),
    ],
    ids=["text", "mapping", "number", "nested", "small number"],
)
def test_of_a_value_the_beginning_is_shown_as_python_spells_it(value: object, text: str) -> None:
    assert spelt(value) == text


def test_what_holds_itself_or_repeats_itself_a_thousandfold_is_shown_at_once() -> None:
    endless: list[object] = []
    endless.append(endless)
    laughs: list[object] = ["ha"]
    for _ in range(100):
        laughs = [laughs] * 10
    assert spelt(endless) == "[[[[...]]]]" and spelt(laughs).endswith("...")


def test_of_a_very_long_line_beginning_and_end_are_kept() -> None:
    line = one_line(f"search.yaml: {'x' * 10**6}; fix it")
    assert len(line) < LONGEST_LINE + 10
    assert line.startswith("search.yaml: x") and line.endswith("x; fix it")


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
    tables = [farm_status._searches(status), farm_status._evaluators(status), farm_status._queues(status)]
    output = shown(*tables)
    assert harmless(output) and "good" in output and "4 of 9" in output and "2 �[31m" in output
