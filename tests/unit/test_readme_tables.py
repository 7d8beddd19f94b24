"""What the README says of keys, variables, rooms and commands is so."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest

from deploy.readme.tables import environment_table, search_file_table, study_file_table, with_tables
from shared.environment import Environment
from shared.settings import StudySettings, parse_settings
from shared.settings.baselines import BaselineName
from shared.yaml_text import parse_yaml

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_s_tables_are_those_of_the_settings() -> None:
    assert with_tables(README) == README, "run `make reference`"
    for table in (search_file_table(), study_file_table(), environment_table()):
        assert README.count(table) == 1


def test_a_table_that_is_out_of_date_is_made_anew_and_nothing_else_is_touched() -> None:
    old = README.replace("| `dtype` | `auto` |", "| `dtype` | `float16` |").replace(environment_table(), "")
    assert old != README and with_tables(old) == README


def test_every_key_and_variable_has_one_row_with_its_default() -> None:
    assert "| `training.steps` | `400` | Optimiser steps, " in README
    assert "| `tasks[].search.items` | required | " in README
    assert "| `supernet` |  | " in README
    rows = {line.split("`")[1] for line in environment_table().splitlines()[2:]}
    assert rows == {f"NASFARM_{name.upper()}" for name in Environment.model_fields}
    assert all(field.description for field in Environment.model_fields.values())


def test_every_key_of_the_study_file_alone_has_a_row_and_so_has_each_baseline() -> None:
    rows = {line.split("`")[1] for line in study_file_table().splitlines()[2:]}
    assert rows >= set(StudySettings.model_fields)
    assert rows >= {f"baselines[].baseline: {name}" for name in get_args(BaselineName)}
    assert rows >= {"supernets[].name", "heuristics[].layers", "calibration.tokens", "fine_tuning.lora_rank"}
    for baseline in StudySettings.alternatives("baselines"):
        assert rows >= {f"baselines[].{key}" for key in baseline.model_fields if key != "baseline"}
    assert "| `baselines[].heads` | `false` | Of `magnitude`: " in study_file_table()
    assert not any(row.startswith(("tasks[].", "supernets[].space.", "search.")) for row in rows), "said once already"


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", README, re.DOTALL))
def test_the_readme_s_search_file_is_one(text: str) -> None:
    assert parse_settings(parse_yaml(text), "README.md").name == "smollm2-arc-easy"


@pytest.mark.parametrize("room", ["shared", "services"])
def test_the_readme_lists_every_room(room: str) -> None:
    listed = README.partition(f"\n{room}/")[2].partition("\n```\n")[0]
    rooms = {path.parent.name for path in (ROOT / room).glob("*/__init__.py")}
    assert {name for name in rooms if not re.search(rf"^  ([\w, ]+/, )?{name}/", listed, re.MULTILINE)} == set()


@pytest.mark.parametrize("file", ["README.md", "deploy/README.md"])
def test_every_module_that_a_readme_runs_is_there(file: str) -> None:
    named = set(re.findall(r"python -m ([\w.]+)", (ROOT / file).read_text(encoding="utf-8")))
    assert named and all(find_spec(name) for name in named)
