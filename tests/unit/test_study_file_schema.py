"""The JSON Schema of study files: an editor says what nasfarm says, as far as it can."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from jsonschema import Draft202012Validator

from shared.errors import UserError
from shared.settings import StudySettings, parse_study, read_study_file
from shared.settings.schema import study_file_schema
from shared.settings.values import Section
from shared.yaml_text import parse_yaml
from tests.support.command import nasfarm
from tests.support.study_keys import FULL, GOOD, odd_study_files

SCHEMA = study_file_schema()
EDITOR = Draft202012Validator(SCHEMA)
STUDIES = Path(__file__).parents[2] / "deploy" / "studies"

UNSAID = (
    r"slices: |is listed twice|(or more|or less|than \S+) \(it is '|a search would be called|is none of `|"
    r"^x: heuristics\.\d+\."
    r"(supernet: there is no|depth: super-network|layers: (all MLPs|there is no|\d+ layers))"
)
"""What JSON Schema can't say: that names differ or are among others, how long several are together, and how large a
number is that is written as text."""


def refusal(values: dict[str, Any]) -> str:
    """What nasfarm says against a study file; nothing where it takes it."""
    try:
        parse_study(values, "x")
    except UserError as error:
        return str(error)
    return ""


def test_the_schema_is_one_of_draft_2020_12() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["title"] == "Study file of nasfarm"


@settings(max_examples=500)
@given(odd_study_files())
@example(GOOD)
@example(FULL)
@example({**GOOD, "timed_task": "arc_easy"})
@example({**GOOD, "timed_task": "arc_easy", "serving": {}})
@example({**GOOD, "timed_task": None})
@example({**GOOD, "objectives": ["decode_seconds"]})
@example({**GOOD, "objectives": ["bytes", "bytes"]})
@example({**GOOD, "sizes": [1]})
@example({**GOOD, "baselines": [{"compensation": True}]})
@example({**GOOD, "baselines": [{"baseline": "wanda", "compensation": True}]})
@example({**GOOD, "baselines": [{"baseline": "wunda"}]})
@example({**GOOD, "tasks": [{**GOOD["tasks"][0], "name": "piqa, together"}]})
@example(
    {**GOOD, "supernets": [{"name": "ours", "space": {**GOOD["supernets"][0]["space"], "quantization": ["int8"]}}]}
)
def test_an_editor_refuses_what_nasfarm_refuses_and_nothing_else(values: dict[str, Any]) -> None:
    said = refusal(values)
    if not re.search(UNSAID, said):
        assert EDITOR.is_valid(values) == (not said), said or [error.message for error in EDITOR.iter_errors(values)]


@settings(max_examples=100)
@given(odd_study_files())
def test_what_is_kept_of_a_study_file_is_one_for_the_editor_too(values: dict[str, Any]) -> None:
    if not refusal(values):
        EDITOR.validate(StudySettings.model_validate(values).model_dump(mode="json"))


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_an_editor_takes_every_study_file_that_ships(path: Path) -> None:
    EDITOR.validate(parse_yaml(path.read_text(encoding="utf-8")))
    EDITOR.validate(read_study_file(path).model_dump(mode="json"))


@pytest.mark.parametrize("section", [StudySettings, *StudySettings.sections()], ids=lambda each: each.__name__)
def test_every_section_is_closed_and_each_of_its_keys_has_a_title_a_description_and_its_default(
    section: type[Section],
) -> None:
    said = SCHEMA if section is StudySettings else SCHEMA["$defs"][section.__name__]
    assert said["additionalProperties"] is False and said["title"]
    for key, field in section.model_fields.items():
        value = said["properties"][key]
        assert (value["description"] == section.described(key) and "title" in value) or "$ref" in str(value)
        assert re.fullmatch(r"\S.{8,}\.", value["description"])
        if not field.is_required():
            plain = section.model_construct().model_dump(mode="json", include={key}, warnings=False)
            assert json.loads(json.dumps(value["default"])) == plain[key]


def test_an_editor_says_what_each_baseline_does_and_needs_its_name() -> None:
    for baseline in StudySettings.alternatives("baselines"):
        said = SCHEMA["$defs"][baseline.__name__]
        assert re.fullmatch(r"\S.{8,}\.", said["description"]) and said["required"] == ["baseline"]


def test_the_command_prints_and_writes_the_schema_of_either_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = nasfarm(capsys, monkeypatch, "schema", "--study")
    assert (ended.code, ended.error) == (0, "") and json.loads(ended.output) == SCHEMA
    file = tmp_path / "schema.json"
    for options, title, name in (((), "Search", "a search"), (("--study",), "Study", "a study")):
        ended = nasfarm(capsys, monkeypatch, "schema", *options, "--output", file)
        assert ended.code == 0 and f"begin {name} file with: # yaml-language-server" in ended.output
        assert json.loads(file.read_text(encoding="utf-8"))["title"] == f"{title} file of nasfarm"
