"""Benchmarks, which nothing but a person runs."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import get_args

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
from tests.benchmarks.asynchronous import Mode, Search
from tests.benchmarks.rehearsal_7b import LIMIT, SCALES, memory, search_file
from tests.support.data import ROOT
from tests.support.spaces import LLAMA2_7B
from tests.support.synthetic import SyntheticAccuracy

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
