"""The benchmark of served networks: its turns and its ratios, without an engine."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.benchmarks import served
from tests.benchmarks.served import Exported, in_turns, ratio_to
from tests.support.serving_child import Served


def network(name: str) -> Exported:
    row: Any = SimpleNamespace(name=name)
    return Exported(row, "llama.cpp", Path(name), 1)


def test_networks_run_in_turn_after_a_round_that_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run_once(exported: Exported, prompt: int, generated: int) -> Served:
        ran.append(exported.row.name)
        return Served(len(ran), prompt, generated, 1)

    monkeypatch.setattr(served, "run_once", run_once)
    found = in_turns([network("dense"), network("N1"), network("N2")], rounds=2, prompt=8, generated=4)
    assert ran == ["N2", "N1", "dense", "dense", "N1", "N2", "N2", "N1", "dense"]
    assert [[each.load_seconds for each in own] for own in found] == [[4, 9], [5, 8], [6, 7]]


def test_ratios_are_of_the_same_round_and_above_one_where_the_network_is_better() -> None:
    # The machine was ten times slower in the second round.
    dense = [Served(2.0, 100.0, 50.0, 1000), Served(20.0, 10.0, 5.0, 1000), Served(2.0, 100.0, 50.0, 1000)]
    small = [Served(1.0, 120.0, 75.0, 500), Served(10.0, 12.0, 7.5, 500), Served(1.0, 120.0, 75.0, 500)]
    assert ratio_to(small, dense, lambda each: each.prefill, True) == pytest.approx(1.2)
    assert ratio_to(small, dense, lambda each: each.decode, True) == pytest.approx(1.5)
    assert ratio_to(small, dense, lambda each: each.load_seconds, False) == pytest.approx(2)
    assert ratio_to(small, dense, lambda each: each.peak_bytes, False) == pytest.approx(2)
