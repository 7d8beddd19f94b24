"""YAML as people mean it."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shared.yaml_text import NotYamlError, format_yaml, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("-007", -7),
        ("+5", 5),
        ("0", 0),
        ("0o10", 8),
        ("0x1F", 31),
        ("1e3", 1000.0),
        ("1e-4", 1e-4),
        ("3e-5", 3e-5),
        ("3.0e-05", 3e-5),
        ("6.02E+23", 6.02e23),
        (".5", 0.5),
        ("2.", 2.0),
        ("-.inf", float("-inf")),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("1:30", "1:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("OFF", "OFF"),
        ("y", "y"),
        ("tRue", "tRue"),
        ("2026-11-27", "2026-11-27"),
        ("2026-11-27 15:00:00", "2026-11-27 15:00:00"),
        ("=", "="),
        ("1.2.3", "1.2.3"),
        ("e5", "e5"),
        ('"010"', "010"),
        ("'true'", "true"),
        ("!!str 010", "010"),
        ("!!int 010", 10),
        ("!!float 1", 1.0),
        ("!!bool TRUE", True),
    ],
)
def test_a_value_is_what_yaml_1_2_says(text: str, value: object) -> None:
    for parsed in (parse_yaml(f"key: {text}")["key"], *parse_yaml(f"- {text}"), *parse_yaml(f"[{text or '~'}]")):
        assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize("text", ["!!int 1:30", "!!int yes", "!!float 1_0.5", "!!bool yes", "!!int ''"])
def test_a_value_that_is_not_what_it_is_said_to_be_is_refused(text: str) -> None:
    with pytest.raises(NotYamlError, match=r"^in line 2 \('.*' is not a valid (int|float|bool)\)$"):
        parse_yaml(f"a: 1\nb: {text}")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: 1\nb: 2\na: 3", r"^in line 3 \(the key 'a' is given twice, first in line 1\)$"),
        ("x:\n  a: 1\n  'a': 1", r"^in line 3 \(the key 'a' is given twice, first in line 2\)$"),
        ("x: [{a: 1, b: 2, a: 3}]", r"^in line 1 \(the key 'a' is given twice, first in line 1\)$"),
        ("16: a\n0x10: b", r"^in line 2 \(the key '0x10' is given twice, first in line 1\)$"),
        ("base: &base {a: 1}\nx:\n  <<: *base\n  b: 1\n  b: 2", r"^in line 5 \(the key 'b' is given twice"),
    ],
)
def test_a_key_that_is_given_twice_is_refused_by_name_and_line(text: str, complaint: str) -> None:
    with pytest.raises(NotYamlError, match=complaint):
        parse_yaml(text)


def test_the_same_key_in_different_places_is_no_harm() -> None:
    assert parse_yaml("a: {a: 1}\nb: [{a: 1}, {a: 2}]") == {"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}


def test_merge_keys_give_what_is_not_given_itself() -> None:
    text = """
base: &base {items: 10, split: test}
other: &other {<<: *base, items: 20}
last: {split: train, <<: [*other, *base]}
again: {<<: *other}
"""
    assert parse_yaml(text) == {
        "base": {"items": 10, "split": "test"},
        "other": {"items": 20, "split": "test"},
        "last": {"items": 20, "split": "train"},
        "again": {"items": 20, "split": "test"},
    }


def test_anchors_stand_for_what_they_name() -> None:
    assert parse_yaml("a: &some [1, 2]\nb: *some") == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [1", r"^in line 1 \(while parsing a flow sequence, expected .*\)$"),
        ("a: 1\n\tb: 2", r"^in line 2 \("),
        ("a: *nobody", r"^in line 1 \(found undefined alias 'nobody'\)$"),
        ("a: !!python/object:os.system x", r"^in line 1 \(could not determine a constructor"),
        ("a: 1\n---\nb: 2", r"^in line 2 \(expected a single document in the stream, but found another document\)$"),
        ("{[1]: 2}", r"^in line 1 \(while constructing a mapping, found unhashable key\)$"),
        ("a: 1\nb: \x00", r"^in line 2 \(the character U\+0000, which is allowed in no YAML\)$"),
        ("[" * 5000, r"^in line 1 \(it is nested too deeply\)$"),
        ("a:\n" + "- " * 5000, r"^in line 2 \(it is nested too deeply\)$"),
        ("a: " + "9" * 5000, r"^in line 1 \(a number of 5000 characters\)$"),
        ("a: 0x" + "f" * 5000, r"^in line 1 \(a number of 5002 characters\)$"),
        ("a: 1\nb: !!timestamp 2026-13-45", r"^in line 2 \(could not determine a constructor"),
        ("a: !!int [1]", r"^in line 1 \(expected a scalar node, but found sequence\)$"),
        ("!!map a: 1", r"^in line 1 \(while constructing a mapping, found unhashable key\)$"),
        ('a: "\\UFFFFFFFF"', r"^in line 1 \(.*too large.*\)$"),
        ('a: "\\uD800"', r"^in line 1 \(an escape is half of a character\)$"),
        ("%YAML " + "9" * 5000 + ".1\n---\na: 1", r"^in line 1 \(Exceeds the limit"),
        ("a: *" + "x" * 5000, r"^in line 1 \(found undefined alias 'x+\.\.\.\)$"),
        ("a: 1\nb: &b [1, *b]", r"^in line 2 \(the anchor 'b' stands within itself\)$"),
        ("a: &a {<<: *a}", r"^in line 1 \(the anchor 'a' stands within itself\)$"),
    ],
)
def test_what_is_no_yaml_is_refused_in_one_line(text: str, complaint: str) -> None:
    with pytest.raises(NotYamlError, match=complaint) as refusal:
        parse_yaml(text)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 250


@pytest.mark.parametrize(
    ("first", "each"),
    [("[x, x, x]", "[{0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}]"), ("{k: v}", "{{<<: [{0}, {0}, {0}, {0}, {0}]}}")],
    ids=["lists", "merge keys"],
)
def test_anchors_that_repeat_one_another_without_end_are_refused_before_anything_is_made(first: str, each: str) -> None:
    lines = [f"a0: &a0 {first}", *(f"a{n}: &a{n} {each.format(f'*a{n - 1}')}" for n in range(1, 40))]
    with pytest.raises(
        NotYamlError, match=r"^in line \d+ \(there are more than 20,000 values, those that anchors repeat"
    ):
        parse_yaml("\n".join(lines))


def test_two_escapes_make_one_character_as_in_json() -> None:
    assert parse_yaml('a: "\\ud83d\\ude00"') == {"a": "😀"}


TEXTS = st.one_of(
    st.text(),
    st.text(alphabet="0123456789.:_+-eEoxXbB", max_size=8),
    st.sampled_from(
        ["yes", "no", "on", "off", "true", "null", "~", "<<", "=", "0o10", "1e5", "1:30", "2026-11-27", ""]
    ),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)


@given(VALUES)
def test_what_is_written_is_read_as_the_same_by_either_version(value: Any) -> None:
    text = format_yaml(value)
    assert parse_yaml(text) == value
    assert yaml.safe_load(text) == value
