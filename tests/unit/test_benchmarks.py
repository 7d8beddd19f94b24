"""Benchmarks, which nothing but a person runs."""

from importlib import import_module

import pytest

from tests.support.data import ROOT

NAMES = sorted(path.stem for path in (ROOT / "tests" / "benchmarks").glob("[a-z]*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_finds_what_it_imports_and_has_a_command(name: str) -> None:
    assert callable(import_module(f"tests.benchmarks.{name}").main)
