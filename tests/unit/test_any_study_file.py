"""Whatever is in a study file: it is a study, or one short line says what is wrong and where."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UserError
from shared.settings import StudySettings, parse_study, read_study_file
from shared.text import one_line
from shared.yaml_text import format_yaml, parse_yaml
from tests.support.nasty_yaml import Changes, changes_of, mutated

LONGEST = 500
"""Characters of what is said, besides the file's name."""
GOOD = """\
name: example
model: somewhere
supernets:
  - {name: ours, space: {depths: [30, 26], mlp_widths: [1536, 768]}}
tasks:
  - {name: arc_easy, search: {items: 200}, report: {items: 500}}
  - {name: mmlu, num_fewshot: 5, search: {items: 20}, report: {items: 50}}
sizes: [1.3]
baselines:
  - {baseline: evopress, offspring: 4}
  - {baseline: slicegpt}
fine_tuning: {full: [slicegpt], lora_alpha: 16}
heuristics:
  - {name: theirs, supernet: ours, depth: 26, layers: [2, 3]}
timed_task: mmlu
serving: {batch: 2}
"""


def read(content: bytes) -> StudySettings | None:
    """The study; None if it is refused as it should be."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "study.yaml"
        file.write_bytes(content)
        try:
            found = read_study_file(file)
        except UserError as error:
            refusal = str(error)
        else:
            refusal = ""
    if refusal:
        assert refusal.startswith(f"{file}: ")
        assert "\n" not in one_line(refusal) and len(refusal) - len(str(file)) < LONGEST
        return None
    assert parse_study(parse_yaml(format_yaml(found.model_dump(mode="json"))), "its copy") == found
    return found


def test_the_good_file_is_good() -> None:
    assert read(GOOD.encode()) is not None


@given(st.one_of(st.text().map(str.encode), st.binary()))
def test_any_text_is_a_study_or_refused_in_one_short_line(content: bytes) -> None:
    read(content)


@settings(max_examples=300)
@given(changes_of(GOOD))
def test_a_study_file_with_anything_in_it_is_a_study_or_refused_in_one_short_line(changes: Changes) -> None:
    read(mutated(GOOD, *changes).encode("utf-8", "surrogatepass"))
