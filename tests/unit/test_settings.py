"""The search file: what it says, and what is said about a bad one."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.application.run_directory import RunDirectory
from shared.environment import Environment
from shared.errors import UserError
from shared.messages import SpeedSpec, Workload
from shared.settings import (
    LONGEST_NAME,
    ItemsPart,
    SearchSettings,
    ServingSettings,
    parse_settings,
    read_search_file,
    write_search_file,
)
from shared.yaml_text import format_yaml
from tests.support.search_keys import GOOD


def changed(path: str, value: Any) -> dict[str, Any]:
    """The good settings with another value at a path such as `tasks.0.name`."""
    values: Any = copy.deepcopy(GOOD)
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place = values
    for step in steps:
        place = place.setdefault(step, {}) if isinstance(place, dict) else place[step]
    place[last] = value
    return dict(values)


def test_a_short_file_is_completed_with_defaults(tmp_path: Path) -> None:
    file = tmp_path / "search.yaml"
    write_search_file(file, yaml.safe_dump(GOOD))
    settings = read_search_file(file)
    assert settings.space.depth_rule == "importance"
    assert settings.training.neuron_order == "importance"
    assert settings.search.strategy == "linas"
    assert settings.metrics == ("acc", "acc")


def test_settings_survive_yaml(tmp_path: Path) -> None:
    file = tmp_path / "search.yaml"
    settings = parse_settings(changed("training.learning_rate", 1e-4), "x")
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json")), encoding="utf-8")
    assert read_search_file(file) == settings


def test_a_task_with_two_scored_splits_is_searched_on_one_and_reported_on_the_other() -> None:
    settings = parse_settings(GOOD, "x")
    search, report = settings.spec("search", "float32").tasks[0], settings.spec("report", "float32").tasks[0]
    assert (search.split, search.start, search.stop) == ("validation", 0, 200)
    assert (report.split, report.start, report.stop) == ("test", 0, 500)


def test_a_task_with_one_scored_split_takes_its_report_from_the_items_after_the_search() -> None:
    settings = parse_settings(GOOD, "x")
    search, report = settings.spec("search", "float32").tasks[1], settings.spec("report", "float32").tasks[1]
    assert (search.split, search.start, search.stop) == (None, 0, 100)
    assert (report.split, report.start, report.stop) == (None, 100, 400)
    assert search.num_fewshot == report.num_fewshot == 5


@pytest.mark.parametrize(
    ("search_split", "report_split", "report_start"),
    [("test", None, 200), (None, "validation", 200), ("train", "test", 0)],
)
def test_parts_that_are_put_on_the_same_split_share_no_item(
    search_split: str | None, report_split: str | None, report_start: int
) -> None:
    values = changed("tasks.0.search.split", search_split)
    values["tasks"][0]["report"]["split"] = report_split
    settings = parse_settings(values, "x")
    assert settings.spec("report", "float32").tasks[0].start == report_start


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("colour", "red", "colour: unknown key; remove it or correct its spelling"),
        ("space.heads", [1], "space.heads: unknown key"),
        ("training.lr", 1, "training.lr: unknown key"),
        ("tasks.1.report.shots", 1, r"tasks.1.report.shots: unknown key"),
        ("space.depths", [], "space.depths: should have 1 or more entries"),
        ("space.mlp_widths", [], "space.mlp_widths: should have 1 or more entries"),
        ("space.depths", ["deep"], r"space.depths.0: should be a whole number, such as 4 \(it is 'deep'\)"),
        ("space.depth_rule", "random", "space.depth_rule: .*'importance', 'divergence' or 'first'"),
        ("space.depth_rule", ["random"], "space.depth_rule.0: .*'importance', 'divergence' or 'first'"),
        ("space.depth_rule", [], r"space.depth_rule: should have 1 or more entries \(it is \[\]\)"),
        ("space.depth_rule", ["first", "first"], "space.depth_rule: a rule is listed twice"),
        ("space.depth_rule", None, "space.depth_rule: .*'importance', 'divergence' or 'first'"),
        ("training.learning_rate", 0, "training.learning_rate: .*greater than 0"),
        ("training.steps", -1, "training.steps: should be a number, 0 or more"),
        ("training.checkpoint_every_seconds", 0, "training.checkpoint_every_seconds: .*greater than 0"),
        ("search.strategy", "luck", "search.strategy: .*'bayesian', 'linas', 'nsga2' or 'random'"),
        ("search.evaluations", 0, "search.evaluations: should be a number, 1 or more"),
        ("tasks", [], "tasks: should have 1 or more entries"),
        ("tasks.0.name", " ", "tasks.0.name: give the name of an lm-eval task"),
        ("tasks.1.name", "arc_easy", "tasks: a task is listed twice"),
        ("tasks.0.search.items", 0, "tasks.0.search.items: should be a number, 1 or more"),
        ("name", "../up", r"name: should be letters .*such as smollm2-arc-easy \(it is '../up'\)$"),
        ("name", 7, r"name: should be text; put it in quotes \(it is 7\)$"),
        ("space.depths", 4, r"space.depths: should be a list, such as \[28, 26\] \(it is 4\)$"),
        ("space", "wide", r"space: should be a section, with keys of its own \(key: value\) \(it is 'wide'\)$"),
        ("training.steps", 1.5, r"training.steps: should be a whole number, such as 4 \(it is 1.5\)$"),
        (
            "training.learning_rate",
            "fast",
            r"training.learning_rate: should be a number, such as 0.5 \(it is 'fast'\)$",
        ),
        ("training.learning_rate", 2, r"training.learning_rate: should be a number less than 1 \(it is 2\)$"),
        ("reporting.margin", 51, r"reporting.margin: should be a number, 50 or less \(it is 51\)$"),
        ("training.steps", "9" * 5000, rf"training.steps: .* \(it is '{'9' * 79}\.\.\.\)$"),
        ("tasks.0.metric", "bleu", "tasks.0.metric: .*'acc'"),
        ("dtype", "int4", "dtype: .*'float32', 'bfloat16' or 'auto'"),
        ("space.quantization", ["int8", "int8"], r"space.quantization: a choice is listed twice"),
        ("space.quantization", [], "space.quantization: should have 1 or more entries"),
        ("space.attention", ["keep", "keep"], r"space.attention: a choice is listed twice"),
        ("space.attention", ["skip"], r"space.attention: .*list keep"),
        ("space.attention", [], r"space.attention: .*list keep"),
        ("space.attention", ["drop"], "space.attention.0: .*'keep' or 'skip'"),
        ("objectives", ["kv_cache_bytes"], "objectives: kv_cache_bytes needs .* add a section `serving`"),
        ("space.quantization", ["int4"], "space.quantization.0: .*'none' or 'int8'"),
        ("objectives", [], "objectives: should have 1 or more entries"),
        ("objectives", ["bytes", "bytes"], "objectives: an objective is listed twice"),
        (
            "objectives",
            ["seconds"],
            "objectives.0: .*'parameters', 'bytes', 'kv_cache_bytes', 'prefill_seconds' or 'decode_seconds'",
        ),
        (
            "objectives",
            ["bytes", "decode_seconds"],
            "yaml: objectives: decode_seconds needs .*; add a section `serving`$",
        ),
        ("space.quantization", ["none", "int8"], "yaml: space.quantization: the number of parameters is the same"),
        ("serving.engine", "tensorrt", "serving.engine: .*'torch' or 'vllm'"),
        ("serving.batch", 0, "serving.batch: should be a number, 1 or more"),
        ("serving.tokens", 1, "serving.tokens: unknown key"),
        ("remeasure_int8", "sometimes", "remeasure_int8: should be true or false"),
        ("reporting.margin", 0, "reporting.margin: .*greater than 0"),
        ("reporting.networks", 1, "reporting.networks: should be a number, 2 or more"),
        ("reporting.random", "maybe", "reporting.random: should be true or false"),
        ("reporting.items", 5, "reporting.items: unknown key"),
    ],
)
def test_a_bad_value_is_refused_with_file_and_field(tmp_path: Path, path: str, value: Any, complaint: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump(changed(path, value)), encoding="utf-8")
    with pytest.raises(UserError, match=complaint) as refusal:
        read_search_file(file)
    assert str(refusal.value).startswith(f"{file}: ")
    assert "\n" not in str(refusal.value)


def test_int8_is_not_measured_again_where_networks_are_in_int8_already() -> None:
    for choices in (["int8"], ["none", "int8"]):
        values = {**changed("space.quantization", choices), "objectives": ["bytes"], "remeasure_int8": True}
        with pytest.raises(UserError, match=r"^x: remeasure_int8: .*remove int8 from space\.quantization$"):
            parse_settings(values, "x")


@pytest.mark.parametrize("objective", ["bytes", "prefill_seconds", "decode_seconds"])
def test_any_objective_but_parameters_sees_the_quantization(objective: str) -> None:
    values = {**changed("space.quantization", ["int8", "none"]), "objectives": ["parameters", objective], "serving": {}}
    assert parse_settings(values, "x").objectives == ("parameters", objective)


@pytest.mark.parametrize(
    ("space", "objectives", "complaint"),
    [
        ({"mlp_widths": [8, 4]}, ["kv_cache_bytes"], r"space\.mlp_widths: the KV cache is the same for every choice"),
        (
            {"quantization": ["none", "int8"]},
            ["kv_cache_bytes"],
            r"space\.quantization: the KV cache is the same for every choice",
        ),
        (
            {"quantization": ["none", "int8"]},
            ["kv_cache_bytes", "parameters"],
            r"space\.quantization: the number of parameters is the same",
        ),
    ],
)
def test_choices_that_no_objective_sees_are_refused(space: Any, objectives: list[str], complaint: str) -> None:
    values = {**changed("space", {"depths": [3], "mlp_widths": [8], **space}), "objectives": objectives, "serving": {}}
    with pytest.raises(UserError, match=rf"^x: {complaint}"):
        parse_settings(values, "x")


def test_engine_vllm_times_no_layers_without_attention() -> None:
    values = {**changed("space.attention", ["keep", "skip"]), "serving": {"engine": "vllm"}}
    with pytest.raises(UserError, match=r"^x: space\.attention: engine vllm doesn't run .* leave out skip$"):
        parse_settings(values, "x")
    assert parse_settings({**values, "serving": {"engine": "torch"}}, "x").space.attention == ("keep", "skip")


def test_one_quantization_needs_no_objective_that_sees_it() -> None:
    assert parse_settings(changed("space.quantization", ["int8"]), "x").objectives == ("parameters",)


def test_serving_says_how_speed_is_measured() -> None:
    assert parse_settings(GOOD, "x").serving is None
    serving = parse_settings(changed("serving", {"batch": 4, "repeats": 7}), "x").serving
    assert serving is not None
    assert serving.speed == SpeedSpec(
        engine="torch", workload=Workload(batch=4, prompt_tokens=128, generated_tokens=32), repeats=7
    )


def test_a_search_serves_by_default_as_a_measurement_by_hand_does() -> None:
    assert ServingSettings().speed == SpeedSpec(engine="torch", workload=Workload())


@pytest.mark.parametrize("key", ["name", "model", "space", "tasks"])
def test_what_has_no_default_must_be_given(key: str) -> None:
    values = {name: value for name, value in GOOD.items() if name != key}
    with pytest.raises(UserError, match=f"^the file: {key}: missing; add it$"):
        parse_settings(values, "the file")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"name: [unclosed\nmodel: x", r"not valid YAML in line \d"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (b"- a\n- list", "a search file is a mapping"),
        (b"", "a search file is a mapping"),
    ],
)
def test_what_is_no_search_file_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=complaint) as refusal:
        read_search_file(file)
    assert str(refusal.value).startswith(f"{file}: ")
    assert "\n" not in str(refusal.value)


TEXT = """\
name: example
model: HuggingFaceTB/SmolLM2-135M-Instruct
space: {depths: [30, 26], mlp_widths: [1536, 768]}
training: {TRAINING}
tasks:
  - {name: arc_easy, search: {items: 200}, report: {items: 500}}
"""


def written(directory: Path, training: str) -> Path:
    file = directory / "search.yaml"
    file.write_text(TEXT.replace("{TRAINING}", training), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("text", "steps"),
    [("010", 10), ("0o10", 8), ("0x10", 16), ("1e3", 1000), ("2000.0", 2000), ("1_000", 1000), ('"200"', 200)],
)
def test_a_number_is_what_people_mean_by_it(tmp_path: Path, text: str, steps: int) -> None:
    assert read_search_file(written(tmp_path, f"{{steps: {text}}}")).training.steps == steps


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", "0.0001", ".0001", "1E-4", '"1e-4"'])
def test_a_number_with_an_exponent_is_one(tmp_path: Path, text: str) -> None:
    assert read_search_file(written(tmp_path, f"{{learning_rate: {text}}}")).training.learning_rate == 1e-4


@pytest.mark.parametrize(
    "text", ["1:30", "yes", "on", "true", "false", "2026-11-27", "1.5", "0b11", "[1]", "null", "''"]
)
def test_what_is_no_whole_number_is_refused_where_one_is_wanted(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"search\.yaml: training\.steps: .*(number|integer).*\(it is .*\)$"):
        read_search_file(written(tmp_path, f"{{steps: {text}}}"))


@pytest.mark.parametrize("text", ["1:30", "yes", "true", ".inf", "-.inf", ".nan", "inf", "nan", "1e999"])
def test_what_is_no_finite_number_is_refused_where_one_is_wanted(tmp_path: Path, text: str) -> None:
    for field in ("clip_norm", "weight_decay", "checkpoint_every_seconds"):
        with pytest.raises(UserError, match=rf"search\.yaml: training\.{field}: .*number.*\(it is .*\)$"):
            read_search_file(written(tmp_path, f"{{{field}: {text}}}"))


@pytest.mark.parametrize(
    "path",
    [
        "space.depths.0",
        "space.mlp_widths.0",
        "tasks.0.search.items",
        "tasks.1.num_fewshot",
        "search.evaluations",
        "search.population",
        "search.seed",
        "training.seed",
        "training.learning_rate",
        "serving.batch",
        "reporting.margin",
        "reporting.networks",
    ],
)
def test_a_boolean_is_no_number(path: str) -> None:
    with pytest.raises(UserError, match=rf"^x: {path}: should be a number \(it is True\)$"):
        parse_settings(changed(path, True), "x")


@pytest.mark.parametrize(
    ("text", "value"), [("yes", True), ("on", True), ("true", True), ("no", False), ("off", False)]
)
def test_yes_and_no_are_booleans_where_those_are_wanted(tmp_path: Path, text: str, value: bool) -> None:
    file = written(tmp_path, "{}")
    file.write_text(f"{file.read_text(encoding='utf-8')}search: {{overlap: {text}}}\n", encoding="utf-8")
    assert read_search_file(file).search.overlap is value


@pytest.mark.parametrize("name", ["no", "2026-11-27", "1.2.3", "1_000"])
def test_a_name_is_what_is_written(tmp_path: Path, name: str) -> None:
    file = written(tmp_path, "{}")
    file.write_text(file.read_text(encoding="utf-8").replace("example", name), encoding="utf-8")
    assert read_search_file(file).name == name


def test_a_key_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    complaint = (
        r"search\.yaml: not valid YAML in line 6 \(the key 'steps' is given twice, first in line 5\); correct it"
    )
    with pytest.raises(UserError, match=complaint):
        read_search_file(written(tmp_path, "\n  steps: 1\n  steps: 2"))


def test_sections_may_be_merged_from_one_another(tmp_path: Path) -> None:
    file = written(tmp_path, "{}")
    tasks = """
  - &first {name: arc_easy, num_fewshot: 2, search: &items {items: 200}, report: *items}
  - {<<: *first, name: arc_challenge}
"""
    start, _ = file.read_text(encoding="utf-8").split("tasks:")
    file.write_text(f"{start}tasks:{tasks}", encoding="utf-8")
    first, second = read_search_file(file).tasks
    assert first.num_fewshot == second.num_fewshot == 2
    assert second.name == "arc_challenge" and second.report == first.report


@pytest.mark.parametrize("name", ["0o10", "1e5", "yes", "2026-11-27", "010", "null"])
def test_the_copy_of_a_search_file_in_a_run_is_read_as_the_same(tmp_path: Path, name: str) -> None:
    settings = parse_settings(changed("name", name), "x")
    run = RunDirectory(tmp_path)
    run.record(settings)
    assert run.settings() == settings


def test_a_new_run_has_no_longer_name_than_fits_and_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / ("n" * LONGEST_NAME)).claimed():
        pass
    name = "o" * (LONGEST_NAME + 1)
    old = RunDirectory(tmp_path / name)
    for run in (old, RunDirectory(tmp_path / ("o" * 300))):
        with pytest.raises(UserError, match="name: should have at most 100 characters, and has"), run.claimed():
            pass
    assert not old.path.exists()
    old.record(parse_settings(changed("name", name), "x"))
    with old.claimed():
        assert old.settings().name == name
    with pytest.raises(UserError, match="at most 100 characters"):
        write_search_file(tmp_path / "new.yaml", yaml.safe_dump(changed("name", name)))


def test_a_missing_search_file_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: can't be read .*nasfarm init MODEL"):
        read_search_file(tmp_path / "none.yaml")


def test_a_search_file_that_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    file = tmp_path / "search.yaml"
    write_search_file(file, yaml.safe_dump(GOOD))
    with pytest.raises(UserError, match="colour: unknown key"):
        write_search_file(file, yaml.safe_dump(changed("colour", "red")))
    assert read_search_file(file) == SearchSettings.model_validate(GOOD)


def test_the_environment_has_defaults_for_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("NASFARM_DATA", "NASFARM_CACHE", "NASFARM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    environment = Environment.read()
    assert environment.data is None
    assert environment.cache == tmp_path / "nasfarm"
    assert environment.threads >= 1


def test_the_environment_s_variables_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NASFARM_DATA", str(tmp_path))
    monkeypatch.setenv("NASFARM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NASFARM_THREADS", "3")
    monkeypatch.setenv("NASFARM_EVALUATION_LIMIT", "60")
    monkeypatch.setenv("NASFARM_DRAIN_LIMIT", "1.5")
    monkeypatch.setenv("NASFARM_LOCATIONS", "s3://bucket/nets, /data/my nets,")
    assert Environment.read() == Environment(
        data=tmp_path,
        cache=tmp_path / "cache",
        threads=3,
        evaluation_limit=60,
        drain_limit=1.5,
        locations=("s3://bucket/nets", "/data/my nets"),
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NASFARM_DATA", "/no/such/place"),
        ("NASFARM_THREADS", "0"),
        ("NASFARM_THREADS", "two"),
        ("NASFARM_EVALUATION_LIMIT", "0"),
        ("NASFARM_EVALUATION_LIMIT", "7201"),  # the broker would take the request away
        ("NASFARM_DRAIN_LIMIT", "-1"),
        ("NASFARM_DRAIN_LIMIT", "soon"),
    ],
)
def test_a_variable_that_makes_no_sense_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=f"^{variable}: .*correct the variable or unset it"):
        Environment.read()


def test_a_section_may_name_several_tasks() -> None:
    part = {"items": 3}
    section = {"name": "winogrande, arc_easy,piqa", "num_fewshot": 2, "search": part, "report": part}
    tasks = parse_settings(changed("tasks", [section]), "x").tasks
    assert [(task.name, task.num_fewshot) for task in tasks] == [("winogrande", 2), ("arc_easy", 2), ("piqa", 2)]
    with pytest.raises(UserError, match="tasks: a task is listed twice"):
        parse_settings(changed("tasks", [{**section, "name": "piqa,piqa"}]), "x")
    with pytest.raises(UserError, match=r"tasks\.1\.name: give the name of an lm-eval task"):
        parse_settings(changed("tasks", [{**section, "name": "piqa,"}]), "x")


@pytest.mark.parametrize(
    ("written_as", "value"),
    [("true", True), ("yes", True), ("on", True), ("false", False), ("no", False), ("tool_use", "tool_use")],
)
def test_a_chat_template_is_applied_by_yes_no_or_its_name(tmp_path: Path, written_as: str, value: bool | str) -> None:
    file = written(tmp_path, "{}")
    tasks = f"\n  - {{name: arc_easy, apply_chat_template: {written_as}, search: {{items: 2}}, report: {{items: 3}}}}\n"
    start, _ = file.read_text(encoding="utf-8").split("tasks:")
    file.write_text(f"{start}tasks:{tasks}", encoding="utf-8")
    settings = read_search_file(file)
    assert settings.tasks[0].apply_chat_template == value
    parts: tuple[ItemsPart, ...] = ("search", "report")
    for part in parts:
        (asked,) = settings.spec(part, "float32").tasks
        assert (asked.apply_chat_template, asked.fewshot_as_multiturn) == (value, True)
    file.write_text(format_yaml(settings.model_dump(mode="json")), encoding="utf-8")
    assert read_search_file(file) == settings


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"apply_chat_template": 2}, r"apply_chat_template: should be true, false, or the name of one .* \(it is 2\)"),
        ({"apply_chat_template": " "}, r"apply_chat_template: should be true, false, or the name of one"),
        ({"apply_chat_template": None}, r"apply_chat_template: should be true, false, or the name of one"),
        ({"fewshot_as_multiturn": False}, r"fewshot_as_multiturn: false means nothing without apply_chat_template"),
    ],
)
def test_a_chat_that_makes_no_sense_is_refused(changes: dict[str, Any], complaint: str) -> None:
    part = {"items": 3}
    with pytest.raises(UserError, match=rf"^x: tasks\.0.*{complaint}"):
        parse_settings(changed("tasks", [{"name": "piqa", "search": part, "report": part, **changes}]), "x")
