"""The search files that ship with the project."""

import json
import re
from pathlib import Path

import pytest
import yaml

from services.application.example import SEARCHES, example_search
from services.cli.init import search_text
from services.reporting.statistics.paired_comparison import PairedTable
from shared.architecture import dense
from shared.digest import digest_json
from shared.environment import Environment
from shared.manifest import read_network, search_space, supernet_recipe
from shared.network.shape import NetworkShape
from shared.settings import (
    ItemsPart,
    SearchSettings,
    ServingSettings,
    parse_settings,
    read_search_file,
    read_study_file,
)
from shared.settings.values import Section
from shared.supernet.order import drop_order
from shared.yaml_text import parse_yaml
from tests.support.pretending import SHAPE
from tests.support.shipped import SHIPPED, run_name
from tests.support.spaces import LLAMA2_7B, LLAMA2_7B_CONFIG

PAPER = ("arc-challenge", "arc-easy", "mmlu", "truthfulqa-mc1", "winogrande")
"""The five searches of the LLaMA-NAS paper, in `llama2-7b`."""
OURS = "our-choices"
"""The search beside them that makes choices of its own."""


def shipped(name: str) -> SearchSettings:
    return read_search_file(SEARCHES / name)


def of_7b(name: str) -> SearchSettings:
    return shipped(f"llama2-7b/{name}.yaml")


@pytest.mark.parametrize("path", SHIPPED, ids=run_name)
def test_a_shipped_search_file_is_valid_and_named_like_its_run(path: Path) -> None:
    assert read_search_file(path).name == run_name(path)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> NetworkShape:
    """LLaMA2-7B, by its `config.json` alone: no weights."""
    directory = tmp_path_factory.mktemp("described")
    (directory / "config.json").write_text(json.dumps(LLAMA2_7B_CONFIG), encoding="utf-8")
    return read_network(directory)


def test_the_searches_of_the_7b_model_are_the_paper_s_five_and_one_of_our_own(described: NetworkShape) -> None:
    assert described == LLAMA2_7B
    found = {path.stem for path in (SEARCHES / "llama2-7b").iterdir()}
    assert found == {*PAPER, OURS}
    for name in found:
        settings = of_7b(name)
        space = search_space(described, settings.space, drop_order(described.depth, None))
        assert space.largest() == dense(described) and settings.model == "meta-llama/Llama-2-7b-hf"
        assert settings.search.evaluations == 250


def recipe(settings: SearchSettings) -> str:
    """The identity of a search's super-network, of the same model and training data."""
    return digest_json(supernet_recipe("model", settings.training.data, settings.space, settings.training))


def test_the_paper_s_five_searches_share_one_super_network_also_with_its_study_and_ours_has_another() -> None:
    (study,) = read_study_file(SEARCHES.parent / "studies" / "llama2-7b.yaml").supernets
    recipes = {recipe(of_7b(name)) for name in PAPER}
    assert recipes == {digest_json(supernet_recipe("model", study.training.data, study.space, study.training))}
    assert recipe(of_7b(OURS)) not in recipes
    assert {(of_7b(name).space.depth_rule, of_7b(name).training.neuron_order) for name in PAPER} == {("first", "none")}
    ours = of_7b(OURS)
    assert (ours.space.depth_rule, ours.training.neuron_order) == ("importance", "importance")
    same = ours.training.model_copy(update={"neuron_order": "none"})
    assert {same} == {of_7b(name).training for name in PAPER}


def test_the_searches_of_the_7b_model_ask_the_items_that_the_paper_s_study_asks() -> None:
    """Whether there are so many is tested of the study."""
    study = read_study_file(SEARCHES.parent / "studies" / "llama2-7b.yaml")
    asked = {task.name: task for task in study.tasks}
    parts: tuple[ItemsPart, ...] = ("search", "report")
    for name in (*PAPER, OURS):
        for task in of_7b(name).tasks:
            assert task.metric == asked[task.name].metric
            assert [task.part(part) for part in parts] == [asked[task.name].part(part) for part in parts]
    assert [of_7b(name).tasks[0].name.replace("_", "-") for name in PAPER] == list(PAPER)


def test_the_papers_space_has_the_papers_numbers() -> None:
    settings = of_7b("arc-challenge")
    space = search_space(LLAMA2_7B, settings.space, drop_order(32, None))
    assert space.genomes == 3 * 2**32
    assert space.networks == 2**24 + 2**28 + 2**32
    assert space.parameters(space.smallest()) == 3_496_153_088
    assert space.parameters(space.largest()) == 6_738_415_616


def test_both_examples_search_the_same_space_in_the_same_way() -> None:
    public, built_in = shipped("smollm2-arc-easy.yaml"), shipped("smollm2-plain-facts.yaml")
    different = {"name": "", "tasks": (), "training": None}
    # Of the built-in items there are too few for the margin of the public ones.
    assert public.model_copy(update={**different, "reporting": built_in.reporting}) == built_in.model_copy(
        update=different
    )
    assert public.reporting == built_in.reporting.model_copy(update={"margin": 2.0})
    assert {built_in.tasks[0].name, built_in.training.data} == {"plain_facts"}


def test_the_example_for_serving_searches_the_same_networks_with_and_without_int8() -> None:
    example, served = shipped("smollm2-plain-facts.yaml"), shipped("smollm2-served.yaml")
    assert served.space == example.space.model_copy(update={"quantization": ("none", "int8")})
    assert (served.training, served.tasks, served.search) == (example.training, example.tasks, example.search)
    assert served.reporting == example.reporting
    assert served.objectives == ("bytes", "decode_seconds") and served.serving is not None


def test_the_paper_s_searches_measure_the_front_again_in_int8_and_that_of_mmlu_is_timed() -> None:
    assert all(of_7b(name).remeasure_int8 for name in PAPER)
    assert [name for name in PAPER if of_7b(name).serving] == ["mmlu"]


DISCORDANCE = 0.07
"""Share of items on which a network and one a little smaller differ, of the example search on ARC-Easy."""


@pytest.mark.parametrize("path", SHIPPED, ids=run_name)
def test_a_shipped_search_has_items_enough_to_show_that_a_network_which_loses_nothing_loses_nothing(path: Path) -> None:
    settings = read_search_file(path)
    items = sum(task.report.items for task in settings.tasks)
    differing = DISCORDANCE * items / 2
    assert PairedTable(items, differing, differing).items_needed(settings.reporting.margin / 100) <= items
    assert settings.reporting.random


@pytest.mark.parametrize("benchmarks", [False, True])
def test_the_search_that_init_writes_reports_as_the_examples_do(benchmarks: bool) -> None:
    text = search_text("somewhere/some-model", SHAPE, Path("search.yaml"), benchmarks)
    settings = parse_settings(yaml.safe_load(text), "as written")
    example = shipped("smollm2-arc-easy.yaml" if benchmarks else "smollm2-plain-facts.yaml")
    assert settings.reporting == example.reporting
    assert settings.tasks[0].report == example.tasks[0].report


UNCOMMENTED = (r"^( *)# ( *[a-z_0-9]+:)", r"\1\2")


@pytest.mark.parametrize("benchmarks", [False, True])
def test_what_init_leaves_as_comments_is_all_there_is_with_its_defaults(benchmarks: bool) -> None:
    text = search_text("somewhere/some-model", LLAMA2_7B, Path("search.yaml"), benchmarks)
    plain = parse_settings(parse_yaml(text), "as written")
    values = parse_yaml(re.sub(*UNCOMMENTED, text, flags=re.MULTILINE))
    full = parse_settings(values, "all of it")
    assert plain.serving is None and plain.supernet is None and plain.tasks[0].num_fewshot is None
    assert full.serving == ServingSettings() and full.supernet is not None and full.tasks[0].num_fewshot is not None
    assert values == full.model_dump(mode="json")
    no_default = {"supernet": None, "include_path": None, "serving": None, "tasks": plain.tasks}
    assert full.model_copy(update=no_default) == plain


def test_init_comments_on_every_key() -> None:
    text = search_text("somewhere/some-model", LLAMA2_7B, Path("search.yaml"), benchmarks=False)
    sections: tuple[type[Section], ...] = (SearchSettings, *SearchSettings.sections())
    for section in sections:
        for key in section.model_fields:
            assert f" {key}: " in f" {text}".replace("\n", " ") and section.summary(key).removesuffix(".") in text
    assert all(len(line) <= 120 for line in text.splitlines())


def test_the_example_says_loudly_which_task_and_data_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(data: Path | None) -> tuple[str, str]:
        example = example_search(Environment(data=data, cache=tmp_path, threads=1))
        return example.file.stem, " ".join(example.choice)

    monkeypatch.setattr("services.application.example._hub_answers", lambda: False)
    for folder in ("arc_easy", "alpaca"):
        file, said = chosen(tmp_path)
        assert file == "smollm2-plain-facts" and "built-in task plain_facts" in said
        (tmp_path / folder).mkdir()
    assert chosen(tmp_path) == ("smollm2-arc-easy", "Example search: ARC-Easy, fine-tuned on Alpaca.")
    file, said = chosen(None)
    assert file == "smollm2-plain-facts" and "say nothing about public benchmarks" in said
    monkeypatch.setattr("services.application.example._hub_answers", lambda: True)
    assert chosen(None)[0] == "smollm2-arc-easy"
