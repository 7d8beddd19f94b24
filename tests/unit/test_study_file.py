"""The study file: what it says, and what is said about a bad one."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings

from shared.errors import UserError
from shared.settings import (
    LONGEST_NAME,
    MOST_BYTES,
    SearchSettings,
    StudySettings,
    check_new_name,
    parse_settings,
    parse_study,
    read_search_file,
    read_study_file,
)
from tests.support.search_keys import GOOD as SEARCH
from tests.support.study_keys import GOOD, odd_study_files

LONGEST = 600
"""Characters of what is said."""


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


SEVERAL = {"depths": [30, 28], "mlp_widths": [1536, 768], "depth_rule": "first"}
HEURISTIC = {"name": "theirs", "supernet": "ours", "depth": 28, "layers": [2, 3, 27]}


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (
            "name",
            "n" * 94,
            "name: a search would be called .*, which has 117 characters instead of at most 100; shorten",
        ),
        ("supernets.0.name", "a/b", r"supernets\.0\.name: should be letters"),
        ("supernets.0.space.quantization", ["none", "int8"], r"supernets\.0\.space: quantization: a study searches"),
        ("supernets.0.space.quantization", ["int8"], r"supernets\.0\.space: quantization: a study searches"),
        ("supernets", [], "supernets: should have 1 or more entries"),
        ("search", {"strategy": "bayesian", "slices": 2}, "search: slices: a study compares what was measured on the"),
        (
            "supernets.0.search",
            {"strategy": "bayesian", "slices": 2},
            r"supernets\.0\.search: slices: a study compares what was measured on the",
        ),
        ("tasks.1.name", "arc_easy", "tasks: a task is listed twice"),
        ("tasks.1.name", "piqa,piqa", "tasks: a task is listed twice"),
        ("tasks.1.name", "together", "tasks: a task can't be called 'together'"),
        ("objectives", ["decode_seconds"], "objectives.0: should be 'parameters' or 'bytes' .it is 'decode_seconds'"),
        ("objectives", ["bytes", "bytes"], "objectives: an objective is listed twice"),
        ("sizes", [1.3, 1.5, 1.30], "sizes: a size is listed twice"),
        ("sizes", [1], r"sizes\.0: should be a number greater than 1 \(it is 1\)"),
        ("sizes", [float("inf")], r"sizes\.0: should be a finite number"),
        ("sizes", [], "sizes: should have 1 or more entries"),
        ("sizes", 1.3, r"sizes: should be a list"),
        ("timed_task", "arc_easy", "timed_task: how its networks are served isn't said; add a section `serving`"),
        ("fine_tuning.full", ["wanda"], r"fine_tuning\.full: wanda is none of `baselines`; remove it"),
        ("fine_tuning.lora", ["flap"], r"fine_tuning\.lora: flap is none of `baselines`; remove it"),
        ("fine_tuning.lora", ["slicegpt", "slicegpt"], r"fine_tuning\.lora: a baseline is listed twice"),
        ("fine_tuning.lora", ["slice"], r"fine_tuning\.lora\.0: should be 'evopress', "),
        ("baselines", ["wanda"], r"baselines\.0: should be a section"),
        ("baselines", [{}], r"baselines\.0: baseline: missing; add it"),
        (
            "baselines",
            [{"baseline": "wunda"}],
            r"baselines\.0: baseline should be one of 'magnitude', .*, not 'wunda'$",
        ),
        ("baselines", [{"baseline": "wanda"}] * 2, "baselines: a baseline is listed twice"),
        ("baselines", [{"baseline": "flap", "head": True}], r"baselines\.0\.flap\.head: unknown key"),
        ("baselines", [{"baseline": "flap", "heads": 7}], r"baselines\.0\.flap\.heads: should be true or false"),
        ("baselines", [{"baseline": "slicegpt", "step": True}], r"baselines\.0\.slicegpt\.step: should be a number"),
        ("baselines", [{"baseline": "evopress", "offspring": 1}], r"baselines\.0\.evopress\.offspring: .* 2 or more"),
        ("calibration.tokens", 10, r"calibration\.tokens: should be a number, 256 or more"),
    ],
)
def test_what_a_study_can_t_do_is_refused_in_one_line(path: str, value: Any, said: str) -> None:
    refused = refusal(changed(path, value))
    assert re.match(f"x: {said}", refused), refused
    assert "\n" not in refused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"supernet": "theirs"}, r"heuristics\.0\.supernet: there is no super-network 'theirs'; name one of ours"),
        ({"depth": 29}, r"heuristics\.0\.depth: super-network ours has none of 29 layers; choose one of .*\(30, 28\)"),
        ({"layers": [28]}, r"heuristics\.0\.layers: there is no layer 28 in the first 28; count from 0 to 27"),
        ({"layers": [-1]}, r"heuristics\.0\.layers\.0: should be a number, 0 or more"),
        ({"layers": [2, 2]}, r"heuristics\.0\.layers: a layer is listed twice"),
        ({"layers": []}, r"heuristics\.0\.layers: should have 1 or more entries"),
        ({"name": "a b"}, r"heuristics\.0\.name: should be letters"),
    ],
)
def test_a_heuristic_that_builds_no_network_is_refused(changes: dict[str, Any], said: str) -> None:
    values = changed("supernets.0.space", SEVERAL)
    assert parse_study({**values, "heuristics": [HEURISTIC]}, "x").heuristics[0].layers == (2, 3, 27)
    refused = refusal({**values, "heuristics": [{**HEURISTIC, **changes}]})
    assert re.match(f"x: {said}", refused), refused


def test_a_heuristic_needs_a_choice_of_widths_and_no_more_layers_than_there_are() -> None:
    values = {**changed("supernets.0.space", {**SEVERAL, "mlp_widths": [768]}), "heuristics": [HEURISTIC]}
    assert "all MLPs of super-network ours are equally wide" in refusal(values)
    space = {**SEVERAL, "depths": [2], "depth_rule": "importance"}
    values = {**changed("supernets.0.space", space), "heuristics": [{**HEURISTIC, "depth": 2}]}
    assert refusal(values) == "x: heuristics.0.layers: 3 layers are listed, its depth is 2; list fewer"
    values["heuristics"] = [{**HEURISTIC, "depth": 2, "layers": [5, 27]}]
    assert parse_study(values, "x").heuristics[0].layers == (5, 27), "which layers stay only the model says"
    values["heuristics"] *= 2
    assert refusal(values).startswith("x: heuristics: a heuristic is listed twice")


def test_of_several_depth_rules_a_heuristic_goes_by_the_first() -> None:
    heuristics = {"heuristics": [{**HEURISTIC, "depth": 28, "layers": [2, 29]}]}
    first, importance = (
        {**changed("supernets.0.space", {**SEVERAL, "depth_rule": rules}), **heuristics}
        for rules in (["first", "importance"], ["importance", "first"])
    )
    assert "there is no layer 29 in the first 28" in refusal(first)
    assert parse_study(importance, "x").heuristics[0].layers == (2, 29)


def test_the_timed_task_is_one_of_the_tasks_and_by_default_mmlu_or_the_first() -> None:
    served = {**GOOD, "serving": {}}
    assert refusal({**served, "timed_task": "piqa"}) == "x: timed_task: 'piqa' is none of `tasks`; name one of them"
    assert parse_study(served, "x").timed == "arc_easy"
    assert parse_study({**served, "timed_task": "winogrande"}, "x").timed == "winogrande"
    assert parse_study({**changed("tasks.1.name", "mmlu"), "serving": {}}, "x").timed == "mmlu"
    assert parse_study(GOOD, "x").timed is None


def test_a_section_may_name_several_tasks_each_of_which_is_searched_by_itself() -> None:
    study = parse_study(changed("tasks", [{**GOOD["tasks"][0], "name": "piqa, mmlu"}]), "x")
    assert study.searched == ("piqa", "mmlu", "together")
    names = [task.name for task in study.search_settings(study.supernets[0], "mmlu").tasks]
    assert names == ["mmlu"]


def test_a_super_network_is_searched_as_it_says_itself_or_else_as_the_study_does() -> None:
    first = GOOD["supernets"][0]
    own = {**first, "name": "other", "search": {"strategy": "bayesian", "evaluations": 24}}
    study = parse_study({**GOOD, "supernets": [first, own], "search": {"evaluations": 12}}, "x")
    searches = [study.search_settings(supernet, "together").search for supernet in study.supernets]
    assert [(search.strategy, search.evaluations) for search in searches] == [("linas", 12), ("bayesian", 24)]


def test_the_default_of_lora_means_those_that_are_listed_in_a_copy_of_a_study_too() -> None:
    study = parse_study({**GOOD, "baselines": [{"baseline": "wanda"}]}, "x")
    assert study.fine_tuning.lora == ("llm-pruner", "slicegpt") and study.fully_tuned == ("wanda",)
    assert parse_study(study.model_dump(mode="json"), "its copy") == study


@settings(max_examples=300)
@given(odd_study_files())
def test_every_search_of_a_study_that_is_taken_can_be_run(values: dict[str, Any]) -> None:
    try:
        study = parse_study(values, "x")
    except UserError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert refused.startswith("x: ") and "\n" not in refused and len(refused) < LONGEST
        return
    assert parse_study(study.model_dump(mode="json"), "its copy") == study
    searches = [
        study.search_settings(supernet, chosen_on) for supernet in study.supernets for chosen_on in study.searched
    ]
    for search in searches:
        check_new_name(search.name)
        assert parse_settings(search.model_dump(mode="json"), "its search file") == search
    assert len({search.name for search in searches}) == len(study.supernets) * len(study.searched)
    timed = [search for search in searches if search.serving is not None]
    assert len(timed) == (0 if study.timed is None else len(study.supernets))


def test_searches_that_would_have_the_same_name_are_refused() -> None:
    values = changed("supernets", [{**GOOD["supernets"][0], "name": name} for name in ("a", "a.b")])
    values["tasks"] = [{**GOOD["tasks"][0], "name": "b.c, c"}]
    assert refusal(values) == (
        "x: supernets: the search of a on b.c and that of a.b on c would both be called example.a.b.c; call one of the "
        "super-networks otherwise"
    )
    values["supernets"][0]["name"] = "A"
    assert len({search.name for search in searches_of(parse_study(values, "x"))}) == 6


def test_a_search_keeps_its_name_and_settings_whatever_tasks_are_added_and_in_whatever_order() -> None:
    def searches(names: str) -> dict[str, SearchSettings]:
        study = parse_study({**GOOD, "tasks": [{**GOOD["tasks"][0], "name": names}]}, "x")
        return dict(zip(study.searched, searches_of(study), strict=True))

    two, swapped, three = searches("piqa, arc_easy"), searches("arc_easy, piqa"), searches("piqa, arc_easy, mmlu")
    assert two == swapped
    assert {task: search for task, search in three.items() if task in two and task != "together"} == {
        "piqa": two["piqa"],
        "arc_easy": two["arc_easy"],
    }
    assert re.fullmatch(r"example\.ours\.together-[0-9a-f]{8}", two["together"].name)
    assert three["together"].name != two["together"].name


@pytest.mark.parametrize("supernet", ["ours", "s" * 70])
def test_a_study_s_name_may_be_as_long_as_its_searches_names_allow(supernet: str) -> None:
    values = changed("supernets.0.name", supernet)
    short = parse_study({**values, "name": "n"}, "x")
    longest = LONGEST_NAME + 1 - max(len(search.name) for search in searches_of(short))
    study = parse_study({**values, "name": "n" * longest}, "x")
    assert max(len(search.name) for search in searches_of(study)) == LONGEST_NAME
    assert refusal({**values, "name": "n" * (longest + 1)}).startswith("x: name: a search would be called ")


def searches_of(study: StudySettings) -> list[SearchSettings]:
    return [study.search_settings(supernet, on) for supernet in study.supernets for on in study.searched]
