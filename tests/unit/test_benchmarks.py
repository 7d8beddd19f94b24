"""Benchmarks, which nothing but a person runs."""

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import yaml

from services.application.example import SEARCHES
from shared.architecture import dense
from shared.manifest import search_space
from shared.network.config import network_of
from shared.network.sizes import weight_bytes
from shared.settings import parse_settings, read_search_file
from shared.supernet.order import drop_order
from shared.yaml_text import parse_yaml
from tests.benchmarks import strategies
from tests.benchmarks.asynchronous import Mode, Search
from tests.benchmarks.rehearsal_7b import LIMIT, SCALES, memory, search_file
from tests.benchmarks.strategies import Course, evaluations_to
from tests.support.data import ROOT
from tests.support.network_table import NetworkTable, TableSpace
from tests.support.spaces import LLAMA2_7B
from tests.support.synthetic import SyntheticAccuracy
from tests.support.table_accuracy import TableAccuracy

NAMES = sorted(path.stem for path in (ROOT / "tests" / "benchmarks").glob("[a-z]*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_finds_what_it_imports_and_has_a_command(name: str) -> None:
    assert callable(import_module(f"tests.benchmarks.{name}").main)


@pytest.mark.parametrize("scale", sorted(SCALES))
def test_the_rehearsal_of_the_7b_model_searches_the_paper_s_kind_of_space_by_its_rules(scale: str) -> None:
    config = SCALES[scale].config
    settings = parse_settings(parse_yaml(yaml.safe_dump(search_file(Path("base"), config))), "search.yaml")
    network = network_of(config.to_dict())
    space = search_space(network, settings.space, drop_order(network.depth, None))
    assert space.largest() == dense(network)
    paper = read_search_file(SEARCHES / "llama2-7b" / "arc-challenge.yaml")
    rules = [(each.space.depth_rule, each.training.neuron_order) for each in (settings, paper)]
    assert rules[0] == rules[1] and settings.training.steps == 0 and settings.remeasure_int8
    if scale == "7b":
        assert network == LLAMA2_7B and settings.space == paper.space
        disk = 2 * weight_bytes(network, "bfloat16", "none")
        assert disk < SCALES[scale].disk
        assert weight_bytes(network, "bfloat16", "int8") < SCALES[scale].memory < LIMIT


def test_memory_of_a_process_counts_that_of_its_children() -> None:
    alone = memory(os.getpid())
    filled = "x = bytearray(50_000_000); print('ready', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", filled], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        both = memory(os.getpid())
        child.communicate(b"\n")
    assert alone["mapped"] > 0 and both["own"] - alone["own"] > 40_000_000


def test_on_the_simulated_farm_every_network_is_measured_once_and_evaluators_wait_most_for_generations() -> None:
    accuracy, slowness = SyntheticAccuracy("A", "S1", 0, 50), [1.0, 1.0, 4.0]
    searches = {mode: Search(mode, "random", accuracy, 0, slowness, 6, 30) for mode in get_args(Mode)}
    for search in searches.values():
        assert sorted(number for _, number in search.farm.finished) == list(range(30))
    assert searches["generations"].busy < min(searches["overlap"].busy, searches["asynchronous"].busy) <= 1


def test_evaluations_are_counted_from_which_on_the_median_over_seeds_is_at_the_mark() -> None:
    courses = [Course("random", SyntheticAccuracy("A", "S1", seed, 50), seed, (5, 20)) for seed in range(3)]
    for course in courses:
        assert list(course.shares) == [5, 17, 20]  # generations of 12, cut short at budgets
        assert course.share(4) == 0 and course.share(16) == course.shares[5]
    for course, end in zip(courses, (0.9, 0.7, 0.1), strict=True):
        course.shares = {5: 0.8, 17: end, 20: end}
    assert [evaluations_to(mark, courses) for mark in (0.0, 0.7, 0.75)] == [5, 5, None]
    courses[1].shares[17] = 0.65
    assert evaluations_to(0.7, courses) == 20


def test_a_search_ends_when_all_networks_are_measured() -> None:
    space, soft = TableSpace.of((1536,) * 11, (11, 10), (4,), 768), np.random.default_rng(0).random((64, 40))
    accuracy = TableAccuracy(NetworkTable({}, space, soft > 0.5, soft), 0, 20)
    assert max(Course("nsga2", accuracy, 0, (60, 100)).shares) == 64


def test_the_benchmark_of_strategies_prints_each_case_and_what_is_worse_than_random(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space, random = TableSpace.of((1536,) * 11, (11, 10), (4,), 768), np.random.default_rng(0)
    soft = random.random((1024, 40))
    NetworkTable({"task": "none"}, space, soft > 0.5, soft).write(tmp_path / "table.npz")
    monkeypatch.setattr(strategies, "LINAS", "random")  # a quick one
    options = ["--seeds", "2", "--budgets", "12", "20", "--table", str(tmp_path / "table.npz")]

    def printed(*more: str) -> str:
        monkeypatch.setattr(sys, "argv", ["strategies", *options, *more])
        strategies.main()
        return capsys.readouterr().out

    found = printed("--cases", "table", "A/S1", "--strategies", "random", "uniform")
    assert "table, 20 items, 2 seeds" in found and "A/S1, 400 items, 2 seeds" in found
    assert re.search(r"random has [0-9.-]+% after 250 evaluations of 20 items", found)
    assert found.count("worse than random: ") == 2
    found = printed("--cases", "table", "--slices", "4", "--strategies", "bayesian", "--mark", "-1000")
    assert "table, 5 items, 2 seeds" in found and "12 (60 items)" in found
    with pytest.raises(SystemExit, match="has only 20 networks"):
        printed("--cases", "table", "--networks", "20")
    with pytest.raises(SystemExit):
        printed("--slices", "4", "--strategies", "nsga2")
    assert "nsga2 compares networks by what was measured on the same items" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="no table of networks"):
        printed("--cases", "table", "--table", str(tmp_path / "none.npz"))
