"""`nasfarm init`: search files that are read back, whatever the model is called, and their profile."""

import json
import re
import shlex
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)
from hypothesis import given
from hypothesis import strategies as st

from services.application.checkpoint_content import described
from services.application.example import SEARCHES
from services.cli import init
from services.cli.console import duration
from services.cli.init import search_text
from services.evaluator.speed import parameter_tokens_per_second
from services.reporting.wording import SPACE as NBSP
from services.reporting.wording import size
from shared.errors import UserError
from shared.events import Events
from shared.manifest import search_space
from shared.memory_needs import RECIPES, fine_tuning_needs
from shared.network.sizes import outer_parameters, parameters, refitted_parameters
from shared.settings import SearchSettings, parse_settings, read_search_file, write_search_file
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.order import drop_order
from shared.supernet.source import hub
from shared.yaml_text import parse_yaml
from tests.support.checkpoints import write_checkpoint
from tests.support.command import nasfarm
from tests.support.pretending import SHAPE
from tests.support.spaces import LLAMA2_7B, LLAMA2_7B_CONFIG


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


@pytest.mark.parametrize("name", ["my search.yaml", 'it\'s "mine".yaml', "-x.yaml", "two\nlines.yaml"])
def test_the_command_that_is_named_next_is_one_that_can_be_typed(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(init, "parameter_tokens_per_second", lambda checkpoint, dtype: 1e9)
    monkeypatch.chdir(tmp_path)
    write_checkpoint(Path("base"), "llama")
    ended = nasfarm(capsys, monkeypatch, "init", "base", f"--output={name}")
    assert (ended.code, ended.error) == (0, "")
    written_there = Path(name).read_text(encoding="utf-8").splitlines()[0]
    (said,) = re.findall(r"^Next +(nasfarm search .*)\Z", ended.output.rstrip("\n"), re.MULTILINE | re.DOTALL)
    for command in (said, written_there.partition("with: ")[2].replace("\\U0000000a", "\n")):
        program, search, path = shlex.split(command)
        assert (program, search) == ("nasfarm", "search") and Path(path) == Path(name)


def test_as_much_is_done_for_a_network_as_large_as_the_paper_s_as_for_that() -> None:
    paper = read_search_file(SEARCHES / "llama2-7b" / "arc-challenge.yaml")
    settings = written("meta-llama/Llama-2-7b-hf")
    search = settings.search
    assert search.strategy == "bayesian"  # the paper's own is linas, of fewer networks on all items of each
    assert search.evaluations == search.slices * paper.search.evaluations
    assert (settings.training.steps, settings.training.tokens_per_step) == (2000, 16384)
    assert (paper.training.steps, paper.training.tokens_per_step) == (2000, 16384)
    small = parse_settings(parse_yaml(search_text("a/b", SHAPE, Path("search.yaml"), False)), "x")
    assert small.search.evaluations == 192 and small.training.tokens_per_step == 1024


def test_what_is_written_trains_by_what_measured_best_and_at_the_rates_of_the_shipped_files() -> None:
    example = read_search_file(SEARCHES / "smollm2-arc-easy.yaml").training
    small = parse_settings(parse_yaml(search_text("a/b", SHAPE, Path("search.yaml"), True)), "x").training
    large = written("meta-llama/Llama-2-7b-hf").training
    for name in ("full_every", "sampling", "distillation", "importance_on", "refit"):
        assert getattr(small, name) == getattr(large, name) == getattr(example, name)
    assert small.learning_rate == example.learning_rate == 1e-4
    assert large.learning_rate == read_search_file(SEARCHES / "llama2-7b" / "mmlu.yaml").training.learning_rate


def test_a_7b_model_is_profiled_by_its_config_alone_with_memory_disk_and_hours_of_gpus(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hours are those of 2,000 steps of 16,384 tokens, each four passes of 5.3 billion parameters in layers,
    and three of four of them a pass more of the whole network, which teaches."""
    monkeypatch.setattr(init, "parameter_tokens_per_second", lambda checkpoint, dtype: 1e9)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps(LLAMA2_7B_CONFIG), encoding="utf-8")
    ended = nasfarm(capsys, monkeypatch, "init", tmp_path / "base", "-o", tmp_path / "new.yaml")
    assert (ended.code, ended.error) == (0, "")
    lines = {line[:15].strip(): line[15:] for line in ended.output.splitlines()}
    settings = read_search_file(tmp_path / "new.yaml")
    full, lean, leanest = (fine_tuning_needs(LLAMA2_7B, settings.training, each, "bfloat16") for each in RECIPES)
    assert f"fine-tuning {size(full.device)} (full), {size(lean.device)} (lean), " in lines["GPU memory"]
    assert f"{size(leanest.device)} (leanest); scoring " in lines["GPU memory"]
    with_refitted = size(2 * (parameters(LLAMA2_7B) + refitted_parameters(LLAMA2_7B, settings.space.mlp_widths)))
    assert lines["Disk"].startswith(f"model 13.5{NBSP}GB, super-network {with_refitted}; ")
    assert f"{size(full.disk)} (full)" in lines["Disk"]
    hours = {name: re.findall(r"\d+\.?\d* (?:s|min|h)\b", lines[name]) for name in ("A100", "H100 SXM")}
    assert all(len(stages) == 4 for stages in hours.values()), lines
    space = search_space(LLAMA2_7B, settings.space, drop_order(32, None))
    layers = [space.parameters(end) - outer_parameters(LLAMA2_7B) for end in (space.largest(), space.smallest())]
    mean = (layers[0] + 3 * (layers[0] + layers[1]) / 2) / 4  # in every fourth step the whole network, else middling
    seconds = 2 * (4 * mean + 3 / 4 * layers[0]) * 2000 * 16384 / (0.4 * 312e12)
    assert hours["A100"][0] == duration(seconds) and hours["H100 SXM"][0] == duration(seconds * 312 / 989)


def test_a_model_at_the_hub_is_asked_for_its_config_alone_and_one_line_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def download(name: str, file: str, local_dir: Path) -> str:
        asked.append((name, file))
        if name == "an/other":
            raise LocalEntryNotFoundError("no network")
        local_dir.mkdir(parents=True)
        (local_dir / file).write_text(json.dumps(LLAMA2_7B_CONFIG), encoding="utf-8")
        return str(local_dir / file)

    monkeypatch.setenv("NASFARM_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "hf_hub_download", download)
    checkpoint, origin = described("meta-llama/Llama-2-7b-hf", Events())
    assert checkpoint.network == LLAMA2_7B and not checkpoint.weights
    assert origin == "meta-llama/Llama-2-7b-hf from the hub, by its config.json alone"
    with pytest.raises(UserError, match=r"^model 'an/other': the hub can't be reached; give a directory with its conf"):
        described("an/other", Events())
    assert asked == [("meta-llama/Llama-2-7b-hf", "config.json"), ("an/other", "config.json")]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (GatedRepoError, "only for those who accepted its terms; do that on its page at the hub, and log in"),
        (RepositoryNotFoundError, "unknown to the hub; check its name, or log in if it is private"),
        (RemoteEntryNotFoundError, "has no config.json at the hub; name a model that transformers opens"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, kind: type[HfHubHTTPError], words: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise kind("403 Client Error\nof many lines", response=SimpleNamespace(headers={}, request=None))

    monkeypatch.setattr(hub, "hf_hub_download", refuse)
    with pytest.raises(UserError) as refused:
        described("meta-llama/Llama-2-7b-hf", Events())
    assert str(refused.value) == f"model 'meta-llama/Llama-2-7b-hf': {words}"


def test_an_adapter_at_the_hub_is_told_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, file: str, local_dir: Path) -> str:
        if file == "config.json":
            raise RemoteEntryNotFoundError("none", response=SimpleNamespace(headers={}, request=None))
        local_dir.mkdir(parents=True)
        (local_dir / file).write_text('{"base_model_name_or_path": "its/base"}', encoding="utf-8")
        return str(local_dir / file)

    def snapshot(name: str, allow_patterns: list[str]) -> str:
        there = ("adapter_config.json", "adapter_model.safetensors", "tokenizer.json")
        for file in [each for each in there if any(fnmatch(each, pattern) for pattern in allow_patterns)]:
            (tmp_path / file).write_text('{"base_model_name_or_path": "its/base"}', encoding="utf-8")
        return str(tmp_path)

    monkeypatch.setenv("NASFARM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "hf_hub_download", download)
    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    with pytest.raises(UserError, match=r"holds an adapter \(PEFT\) to its/base, not a network; merge it"):
        described("an/adapter", Events())
    with pytest.raises(UserError, match=r"holds an adapter \(PEFT\) to its/base, not a network; merge it"):
        Checkpoint.open(hub.fetch_model("an/adapter")[0])


def test_a_model_that_was_fetched_before_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA2_7B_CONFIG), encoding="utf-8")
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: str(tmp_path / "config.json"))
    monkeypatch.setattr(hub, "hf_hub_download", None)
    assert described("meta-llama/Llama-2-7b-hf", Events())[0].network == LLAMA2_7B


def test_weights_that_lie_in_the_directory_are_looked_at_as_a_search_does(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    assert described(str(tmp_path), Events())[0].weights
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"model\.safetensors: missing; the checkpoint must hold"):
        described(str(tmp_path), Events())


def test_how_fast_this_machine_is_needs_no_weights(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "gemma3-biases")
    (tmp_path / "model.safetensors").unlink()
    assert parameter_tokens_per_second(Checkpoint.described(tmp_path), "float32") > 0


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (5340, "89 min"),
        (5400, "1.5 h"),
        (345_000, "95.8 h"),
        (1e7, "116 days"),
    ],
)
def test_times_are_said_in_the_unit_that_people_would_take(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_of_few_layers_only_possible_depths_are_written(layers: int) -> None:
    text = search_text("a/b", replace(LLAMA2_7B, layers=LLAMA2_7B.layers[:layers]), Path("search.yaml"), False)
    space = parse_settings(parse_yaml(text), "x").space
    assert space.depths[0] == layers
    assert min(space.depths) > 1 or space.depth_rule == "first"
