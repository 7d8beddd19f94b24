"""Good YAML with anything put into it."""

from hypothesis import strategies as st

NASTY = [
    "9" * 5000,
    "0x" + "f" * 5000,
    "x" * 50_000,
    "[" * 300,
    "{a: " * 300,
    "- " * 300,
    "&a [*a]",
    "&a {<<: *a}",
    "!!timestamp 2026-13-45",
    "2026-13-45",
    "!!python/object:os.system x",
    "!!binary 'x'",
    "!!int [1]",
    '"\\UFFFFFFFF"',
    '"\\ud800"',
    '"\\0"',
    "\x00",
    "\ufeff",
    "\u2028",
    ".nan",
    ".inf",
    "1e999",
    "-1",
    "true",
    "null",
    "[]",
    "{}",
    "[[1]]",
    "{1: 2}",
    "? [1]\n: 2",
    "name: twice",
    "---",
    "...",
    "%YAML 9.9",
    "\t",
    "'",
    '"',
    "|",
    ">",
    "@",
    "`",
]

Changes = tuple[list[tuple[int, int, str]], bool]
"""Pieces with the places where they are put and how much they replace there, and whether each goes after a colon."""


def changes_of(good: str) -> st.SearchStrategy[Changes]:
    """Changes to a good file."""
    pieces = st.tuples(st.integers(0, len(good)), st.integers(0, 12), st.sampled_from(NASTY))
    return st.tuples(st.lists(pieces, min_size=1, max_size=3), st.booleans())


def mutated(good: str, changes: list[tuple[int, int, str]], at_line_ends: bool) -> str:
    """A good file with pieces replaced, after a colon or anywhere."""
    text = good
    for place, length, piece in changes:
        start = text.find(":", place) + 2 if at_line_ends else place
        text = f"{text[:start]}{piece}{text[start + length :]}"
    return text
