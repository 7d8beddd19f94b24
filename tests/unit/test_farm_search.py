"""What a coordinator decides for itself, without the libraries of models."""

import re
import tomllib
from pathlib import Path

import pytest

from services.application.packages import MODELS, missing_package
from services.application.pipeline import open_search
from services.application.run_directory import RunDirectory
from services.application.supernet_store import Supernet
from shared.messages import CheckpointRef, Dtype
from tests.chaos.arena import search_settings, write_supernet
from tests.support.data import ROOT

BASE = CheckpointRef(location="somewhere", digest="base")


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
    supernet = Supernet.read(run.supernet)
    plan, history = open_search(search_settings(dtype=asked), run, supernet, BASE, preferred)
    history.close()
    assert plan.dtype == expected
    other: Dtype = "float32" if preferred == "bfloat16" else "bfloat16"
    plan, history = open_search(search_settings(dtype=asked), run, supernet, BASE, other)
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
