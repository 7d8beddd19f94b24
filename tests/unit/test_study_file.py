"""The study file: what it says, and what is said about a bad one."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.errors import UserError
from shared.settings import (
    MOST_BYTES,
    StudySettings,
    parse_settings,
    parse_study,
    read_search_file,
    read_study_file,
)
from tests.support.search_keys import GOOD as SEARCH
from tests.support.study_keys import GOOD


def changed(path: str, value: Any) -> dict[str, Any]:
    """The good study with another value at a path such as `tasks.0.name`."""
    values: Any = copy.deepcopy(GOOD)
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place = values
    for step in steps:
        place = place.setdefault(step, {}) if isinstance(place, dict) else place[step]
    place[last] = value
    return dict(values)


def refusal(values: dict[str, Any]) -> str:
    """What is said against a study."""
    with pytest.raises(UserError) as refused:
        parse_study(values, "x")
    return str(refused.value)


def test_a_short_file_is_completed_with_defaults(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(GOOD), encoding="utf-8")
    study = read_study_file(file)
    assert study == parse_study(GOOD, "x") == StudySettings.model_validate(GOOD)
    assert study.searched == ("arc_easy", "winogrande", "together")
    assert study.objectives == ("parameters",) and study.remeasure_int8 and study.baselines == ()


@pytest.mark.parametrize("key", ["name", "model", "supernets", "tasks", "sizes"])
def test_what_has_no_default_must_be_given(key: str) -> None:
    assert refusal({name: value for name, value in GOOD.items() if name != key}) == f"x: {key}: missing; add it"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"name: [unclosed\nmodel: x", r"not valid YAML in line \d.*begin with one of deploy/studies"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (b"- a\n- list", "a study file is a mapping with name, model, supernets, tasks and sizes"),
        (b"", "a study file is a mapping"),
        (b"# " + b"x" * MOST_BYTES, "holds more than 100,000 bytes, a study file has a few thousand"),
    ],
)
def test_what_is_no_study_file_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=complaint) as refused:
        read_study_file(file)
    assert str(refused.value).startswith(f"{file}: ") and "\n" not in str(refused.value)


def test_a_missing_study_file_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: can't be read .*deploy/studies has study files"):
        read_study_file(tmp_path / "none.yaml")


def test_a_study_file_is_told_from_a_search_file(tmp_path: Path) -> None:
    study, search = tmp_path / "study.yaml", tmp_path / "search.yaml"
    study.write_text(yaml.safe_dump(GOOD), encoding="utf-8")
    search.write_text(yaml.safe_dump(SEARCH), encoding="utf-8")
    with pytest.raises(UserError) as refused:
        read_search_file(study)
    assert str(refused.value) == f"{study}: this is a study file, not a search file; give it to `nasfarm study`"
    with pytest.raises(UserError) as refused:
        read_study_file(search)
    assert str(refused.value) == f"{search}: this is a search file, not a study file; give it to `nasfarm search`"
    with pytest.raises(UserError, match=r"^x: supernets: unknown key"):
        parse_settings({**SEARCH, "supernets": []}, "x")
