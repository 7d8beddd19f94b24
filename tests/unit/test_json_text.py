"""JSON that others wrote is a value, or a ValueError in one line."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.json_text import parse_json

PIECES = st.lists(st.sampled_from(["[", "]", "{", "}", ",", ":", '"a"', "1", "NaN", "null", "\\ud800", '"', " "]))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "a number of more than 4300 digits"),
        (b'{"a": "\xff"}', "not in UTF-8"),
        ("{'a': 1}", "Expecting property name"),
    ],
)
def test_what_is_no_json_is_refused_in_one_line(text: str | bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as refusal:
        parse_json(text)
    assert "\n" not in str(refusal.value)


@given(st.one_of(st.text(), st.binary(), PIECES.map("".join), st.text(string.digits + "-.eE")))
def test_any_text_is_a_value_or_a_value_error(text: str | bytes) -> None:
    try:
        value = parse_json(text)
    except ValueError:
        return
    json.dumps(value)
