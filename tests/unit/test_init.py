"""Search files that `nasfarm init` writes: whatever the model is called, they are read back."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.init import search_text
from shared.errors import UserError
from shared.settings import SearchSettings, parse_settings, write_search_file
from shared.yaml_text import parse_yaml
from tests.support.spaces import LLAMA2_7B


def written(model: str, name: str | None = None) -> SearchSettings:
    return parse_settings(parse_yaml(search_text(model, LLAMA2_7B, Path("search.yaml"), False, name)), "x")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Qwen/Qwen2.5-0.5B", "qwen2.5-0.5b"),
        ("models/Größe", "groe"),
        ("模型/东京", "search"),
        ("models/my model (2)", "my-model-2"),
        ("models/-_.x", "x"),
        ("models/😀tiny", "tiny"),
        ("models/" + "n" * 200, "n" * 100),
        ("/cache/hub/models--HuggingFaceTB--SmolLM2-135M/snapshots/12fd25f77366fa6b3b4b768ec3050bf629380bac", None),
    ],
)
def test_a_run_is_named_after_its_model(model: str, name: str | None) -> None:
    settings = written(model)
    assert settings.name == (name or "smollm2-135m")
    assert settings.model == model


def test_a_directory_is_called_by_its_own_name_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Tiny" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "Tiny")
    assert written(".").name == written("below/..").name == written(f"{tmp_path}/Tiny/").name == "tiny"


@given(model=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_whatever_the_model_is_called_what_init_writes_is_read_back(model: str) -> None:
    assert written(model).model == model


def test_a_name_may_be_given_and_is_checked(tmp_path: Path) -> None:
    assert written("a/b", "other").name == "other"
    text = search_text("a/b", LLAMA2_7B, Path("search.yaml"), False, "größer")
    with pytest.raises(UserError, match=r"name: should be letters \(A to Z\), .* such as smollm2-arc-easy"):
        write_search_file(tmp_path / "search.yaml", text)
    assert not (tmp_path / "search.yaml").exists()


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_of_few_layers_only_possible_depths_are_written(layers: int) -> None:
    text = search_text("a/b", replace(LLAMA2_7B, layers=LLAMA2_7B.layers[:layers]), Path("search.yaml"), False)
    space = parse_settings(parse_yaml(text), "x").space
    assert space.depths[0] == layers
    assert min(space.depths) > 1 or space.depth_rule == "first"
