"""Whatever is in a search file: it is a search, or one short line says what is wrong and where."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UserError
from shared.settings import MOST_BYTES, SearchSettings, parse_settings, read_search_file
from shared.text import one_line
from shared.yaml_text import format_yaml, parse_yaml
from tests.support.nasty_yaml import changes_of, mutated

LONGEST = 500
"""Characters of what is said, besides the file's name."""
GOOD = """\
name: example
model: somewhere
space: {depths: [30, 26], mlp_widths: [1536, 768]}
training: {steps: 4, learning_rate: 1e-4}
tasks:
  - {name: arc_easy, search: {items: 200}, report: {items: 500}}
search: {evaluations: 48, population: 12}
objectives: [bytes]
reporting: {margin: 2}
"""
MUTATED = changes_of(GOOD)
KEYS = st.sampled_from(
    [*SearchSettings.model_fields, "depths", "mlp_widths", "items", "split", "steps", "data", "seed"]
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=9),
        st.sampled_from([10**4299, "9" * 4299]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=10,
)


def read(content: bytes) -> SearchSettings | None:
    """The search; None if it is refused as it should be."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "search.yaml"
        file.write_bytes(content)
        try:
            found = read_search_file(file)
        except UserError as error:
            refusal = str(error)
        else:
            refusal = ""
    if refusal:
        assert refusal.startswith(f"{file}: ")
        assert "\n" not in one_line(refusal) and len(refusal) - len(str(file)) < LONGEST
        return None
    assert parse_settings(parse_yaml(format_yaml(found.model_dump(mode="json"))), "its copy") == found
    for part in ("search", "report"):
        assert found.spec(part, "float32").tasks  # type: ignore[arg-type]
    return found


def test_the_good_file_is_good() -> None:
    assert read(GOOD.encode()) is not None


@given(st.one_of(st.text().map(str.encode), st.binary()))
def test_any_text_is_a_search_or_refused_in_one_short_line(content: bytes) -> None:
    read(content)


@settings(max_examples=300)
@given(MUTATED)
def test_a_search_file_with_anything_in_it_is_a_search_or_refused_in_one_short_line(
    changes: tuple[list[tuple[int, int, str]], bool],
) -> None:
    read(mutated(GOOD, *changes).encode("utf-8", "surrogatepass"))


@given(st.dictionaries(KEYS, VALUES, max_size=6), st.booleans())
def test_any_values_are_a_search_or_refused_in_one_short_line(values: dict[str, Any], beside: bool) -> None:
    read(yaml.safe_dump({**(yaml.safe_load(GOOD) if beside else {}), **values}).encode())


@pytest.mark.parametrize("size", [MOST_BYTES + 1, 50 * MOST_BYTES])
def test_a_file_that_is_no_search_file_by_its_size_is_refused_unread(tmp_path: Path, size: int) -> None:
    (tmp_path / "weights.yaml").write_bytes(b"# " + b"x" * size)
    with pytest.raises(
        UserError, match=r"weights\.yaml: holds more than 100,000 bytes, a search file has a few thousand"
    ):
        read_search_file(tmp_path / "weights.yaml")
    with pytest.raises(UserError, match="holds more than"):
        read_search_file(Path("/dev/zero"))


@pytest.mark.parametrize("field", ["steps", "seed", "warmup_steps"])
@pytest.mark.parametrize("number", [10**80, -(10**80), "9" * 4000], ids=["large", "small", "quoted"])
def test_a_number_beyond_all_counting_is_refused(field: str, number: int | str) -> None:
    with pytest.raises(UserError, match=rf"^x: training\.{field}: should be .*number"):
        parse_settings({**parse_yaml(GOOD), "training": {field: number}}, "x")
