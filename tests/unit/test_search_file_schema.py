"""The JSON Schema of search files: an editor says what nasfarm says."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from jsonschema import Draft202012Validator

from services.cli.init import search_text
from services.cli.schema import write_schema
from shared.errors import UserError
from shared.settings import SearchSettings, parse_settings
from shared.settings.schema import search_file_schema
from shared.yaml_text import parse_yaml
from tests.support.command import nasfarm
from tests.support.search_keys import GOOD, keys, odd_search_files
from tests.support.shipped import SHIPPED, run_name
from tests.support.spaces import LLAMA2_7B

SCHEMA = search_file_schema()
EDITOR = Draft202012Validator(SCHEMA)

UNSAID = r"a task is listed twice|(or more|or less|than \S+) \(it is '|slices of the|slices: \w+ compares"
"""What JSON Schema can't say: that names differ, how large a number is that is written as text, or that there is as
much of another. `slices` is looked at by itself."""


def refusal(values: dict[str, Any]) -> str:
    """What nasfarm says against a search file; nothing where it takes it."""
    try:
        parse_settings(values, "x")
    except UserError as error:
        return str(error)
    return ""


def property_of(path: tuple[str | int, ...]) -> dict[str, Any]:
    """What the schema says of a key."""
    place = SCHEMA
    for step in path:
        if "anyOf" in place:
            place = next(each for each in place["anyOf"] if each != {"type": "null"})
        if "$ref" in place:
            place = SCHEMA["$defs"][place["$ref"].rpartition("/")[2]]
        place = place["items"] if isinstance(step, int) else place["properties"][step]
    return place


def test_the_schema_is_one_of_draft_2020_12() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == Draft202012Validator.META_SCHEMA["$id"]


@settings(max_examples=500)
@given(odd_search_files())
@example({**GOOD, "objectives": ["bytes", "decode_seconds"]})
@example({**GOOD, "objectives": ["bytes", "decode_seconds"], "serving": None})
@example({**GOOD, "objectives": ["bytes", "decode_seconds"], "serving": {}})
@example({**GOOD, "space": {**GOOD["space"], "quantization": ["none", "int8"]}})
@example({**GOOD, "space": {**GOOD["space"], "quantization": ["none", "int8"]}, "objectives": ["bytes"]})
@example({**GOOD, "space": {**GOOD["space"], "attention": ["keep", "skip"]}})
@example({**GOOD, "space": {**GOOD["space"], "attention": ["skip"]}})
@example({**GOOD, "space": {**GOOD["space"], "attention": ["skip", "keep"]}, "serving": {"engine": "vllm"}})
@example({**GOOD, "space": {**GOOD["space"], "depth_rule": ["importance", "divergence"]}})
@example({**GOOD, "space": {**GOOD["space"], "depth_rule": ["first"]}})
@example({**GOOD, "space": {**GOOD["space"], "depth_rule": ["first", "first"]}})
@example({**GOOD, "space": {**GOOD["space"], "depth_rule": []}})
@example({**GOOD, "objectives": ["kv_cache_bytes"]})
@example({**GOOD, "objectives": ["kv_cache_bytes"], "serving": {}})
@example({**GOOD, "objectives": ["kv_cache_bytes", "bytes"], "serving": {}})
@example({**GOOD, "space": {"depths": [3], "mlp_widths": [8]}, "objectives": ["kv_cache_bytes"], "serving": {}})
@example({**GOOD, "space": {**GOOD["space"], "quantization": ["none", "int8"]}, "objectives": ["kv_cache_bytes"]})
@example({**GOOD, "space": {**GOOD["space"], "quantization": ["int8"]}, "remeasure_int8": "Yes"})
@example({**GOOD, "search": {"overlap": "on", "asynchronous": True}})
@example({**GOOD, "search": {"overlap": False, "asynchronous": True}})
def test_an_editor_refuses_what_nasfarm_refuses_and_nothing_else(values: dict[str, Any]) -> None:
    said = refusal(values)
    if not re.search(UNSAID, said):
        assert EDITOR.is_valid(values) == (not said), said or [error.message for error in EDITOR.iter_errors(values)]


def test_an_editor_refuses_slices_for_strategies_that_compare_what_was_measured() -> None:
    for search, taken in (
        ({"slices": 2, "strategy": "bayesian"}, True),
        ({"slices": 1, "strategy": "linas"}, True),
        ({"slices": 2, "strategy": "linas"}, False),
        ({"slices": 2}, False),
    ):
        values = {**GOOD, "search": search}
        assert EDITOR.is_valid(values) == taken == (not refusal(values))


@pytest.mark.parametrize(
    "task",
    [
        {"name": "piqa", "search": {"items": 3, "split": "a"}, "report": {"items": 3}},
        {"name": "arc_easy,piqa", "search": {"items": 3, "split": "a"}, "report": {"items": 3}},
        {"name": "arc_easy, plain_facts", "search": {"items": 3, "split": "a"}, "report": {"items": 3}},
        {"name": "piqa", "search": {"items": 3, "split": "a"}, "report": {"items": 3, "split": "b"}},
        {"name": "piqa", "search": {"items": 3}, "report": {"items": 3}, "fewshot_as_multiturn": "off"},
        {
            "name": "piqa",
            "search": {"items": 3},
            "report": {"items": 3},
            "fewshot_as_multiturn": False,
            "apply_chat_template": "chat",
        },
    ],
)
def test_an_editor_holds_a_task_s_keys_together(task: dict[str, Any]) -> None:
    values = {**GOOD, "tasks": [task]}
    assert EDITOR.is_valid(values) == (not refusal(values))


@settings(max_examples=200)
@given(odd_search_files())
def test_what_a_run_keeps_of_its_search_file_is_one_for_the_editor_too(values: dict[str, Any]) -> None:
    if not refusal(values):
        EDITOR.validate(SearchSettings.model_validate(values).model_dump(mode="json"))


@pytest.mark.parametrize("path", SHIPPED, ids=run_name)
def test_an_editor_takes_every_search_file_that_ships(path: Path) -> None:
    EDITOR.validate(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("benchmarks", [False, True])
def test_an_editor_takes_what_init_writes(benchmarks: bool) -> None:
    EDITOR.validate(parse_yaml(search_text("a/b", LLAMA2_7B, Path("search.yaml"), benchmarks)))


@pytest.mark.parametrize("path", list(keys()), ids=lambda path: ".".join(map(str, path)))
def test_every_key_has_a_description_and_its_default(path: tuple[str | int, ...]) -> None:
    section: Any = SearchSettings
    for step in path[:-1]:
        section = section if isinstance(step, int) else section.section(step)
    key = str(path[-1])
    said = property_of(path)
    assert said["description"] == section.described(key)
    assert re.fullmatch(r"\S.{8,}\.", said["description"]) and section.summary(key) in said["description"]
    field = section.model_fields[key]
    if field.is_required():
        assert "default" not in said
    else:
        plain = section.model_construct().model_dump(mode="json", include={key}, warnings=False)
        assert json.loads(json.dumps(said["default"])) == plain[key]


def test_every_section_is_closed_and_has_a_title() -> None:
    for section in (SCHEMA, *SCHEMA["$defs"].values()):
        assert section["additionalProperties"] is False and section["title"]
        assert all("title" in value or "$ref" in str(value) for value in section["properties"].values())


def test_the_command_prints_the_schema(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ended = nasfarm(capsys, monkeypatch, "schema")
    assert (ended.code, ended.error) == (0, "")
    assert json.loads(ended.output) == SCHEMA


def test_the_command_writes_the_schema_over_an_older_one_but_over_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "search.schema.json"
    for _ in range(2):
        ended = nasfarm(capsys, monkeypatch, "schema", "--output", file)
        assert ended.code == 0 and f"# yaml-language-server: $schema={file}" in ended.output
        assert json.loads(file.read_text(encoding="utf-8")) == SCHEMA
        file.write_text(json.dumps({**SCHEMA, "properties": {}}), encoding="utf-8")
    search = tmp_path / "search.yaml"
    for content in ("name: mine\n", "{}", "[1]"):
        search.write_text(content, encoding="utf-8")
        ended = nasfarm(capsys, monkeypatch, "schema", "--output", search)
        assert ended.code == 2 and ended.error.endswith("is no schema of nasfarm; give another --output\n")
        assert search.read_text(encoding="utf-8") == content


def test_check_jsonschema_takes_the_schema_and_the_shipped_searches(tmp_path: Path) -> None:
    file = tmp_path / "search.schema.json"
    write_schema(file)
    program = Path(sys.executable).parent / "check-jsonschema"
    subprocess.run([program, "--quiet", "--schemafile", file, *SHIPPED], check=True)
