"""What a coordinator concludes from a super-network's manifest alone."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from services.cli.farm import matching_manifest
from services.cli.packages import MODELS, missing_package
from services.cli.run import RunDirectory
from services.cli.searching import open_search
from shared.errors import UserError
from shared.manifest import SupernetManifest, base_location
from shared.messages import CheckpointRef, Dtype
from shared.settings import SearchSettings, parse_settings
from tests.chaos.arena import search_values, write_supernet
from tests.support.data import ROOT

BASE = CheckpointRef(location="somewhere", digest="base")


def settings(**changes: Any) -> SearchSettings:
    values = search_values("any", 0, 8, 4)
    for key, value in changes.items():
        section = values.get(key)
        values[key] = {**section, **value} if isinstance(section, dict) else value
    return parse_settings(values, "test")


def manifest_with(supernet: Path, **changes: Any) -> None:
    path = supernet / "supernet.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_super_network_matches_the_search_file_that_it_was_made_from(tmp_path: Path) -> None:
    digest = write_supernet(tmp_path / "supernet")
    assert matching_manifest(settings(), tmp_path / "supernet").digest == digest
    # What decides nothing about the super-network may differ.
    for changes in (
        {"space": {"quantization": ["none", "int8"]}, "objectives": ["bytes"]},
        {"training": {"checkpoint_every_seconds": 5}},
        {"search": {"seed": 7}},
    ):
        assert matching_manifest(settings(**changes), tmp_path / "supernet").digest == digest


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "another/model"}, "with model somewhere, the search file says another/model"),
        ({"space": {"depths": [8, 7]}}, "with space.depths [8, 7, 6], the search file says [8, 7]"),
        ({"space": {"depth_rule": "importance"}}, "with space.depth_rule first, the search file says importance"),
        ({"training": {"steps": 3}}, "with training.steps 0, the search file says 3"),
    ],
)
def test_another_super_network_than_the_search_file_asks_for_is_refused_by_what_differs(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    write_supernet(tmp_path / "supernet")
    with pytest.raises(UserError) as refused:
        matching_manifest(settings(**changes), tmp_path / "supernet")
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_a_config_that_is_not_the_manifest_s_is_refused(tmp_path: Path) -> None:
    write_supernet(tmp_path / "supernet")
    config = tmp_path / "supernet" / "config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(UserError, match=r"config\.json: differs from the one"):
        matching_manifest(settings(), tmp_path / "supernet")


def test_a_model_s_directory_is_the_same_however_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    assert base_location("base") == base_location(str(tmp_path / "base")) == str(tmp_path / "base")
    assert base_location("HuggingFaceTB/SmolLM2-135M-Instruct") == "HuggingFaceTB/SmolLM2-135M-Instruct"
    write_supernet(tmp_path / "supernet")
    manifest_with(tmp_path / "supernet", base=str(tmp_path / "base"))
    assert matching_manifest(settings(model="./base"), tmp_path / "supernet").base == str(tmp_path / "base")


@pytest.mark.parametrize(
    ("asked", "preferred", "expected"),
    [
        ("auto", "bfloat16", "bfloat16"),
        ("auto", "float32", "float32"),
        ("float32", "bfloat16", "float32"),
    ],
)
def test_auto_is_what_the_search_began_with(tmp_path: Path, asked: str, preferred: Dtype, expected: Dtype) -> None:
    run = RunDirectory(tmp_path)
    write_supernet(run.supernet)
    manifest = SupernetManifest.read(run.supernet)
    plan, history = open_search(settings(dtype=asked), run, manifest, BASE, preferred)
    history.close()
    assert plan.dtype == expected
    other: Dtype = "float32" if preferred == "bfloat16" else "bfloat16"
    plan, history = open_search(settings(dtype=asked), run, manifest, BASE, other)
    history.close()
    assert plan.dtype == expected


def test_the_packages_that_only_models_need_are_those_of_the_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert packages(project["optional-dependencies"]["models"]) <= MODELS
    assert not packages(project["dependencies"]) & MODELS


def packages(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w-]", each)[0].replace("-", "_").lower() for each in requirements}


def test_a_missing_package_of_ours_is_named_and_any_other_missing_module_is_a_bug() -> None:
    assert missing_package(ModuleNotFoundError("no torch", name="torch.nn")) == "torch"
    with pytest.raises(ModuleNotFoundError, match="no such"):
        missing_package(ModuleNotFoundError("no such", name="services.nowhere"))
