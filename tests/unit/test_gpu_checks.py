"""The checks of a GPU, done on a CPU with tiny networks: so they work on the day when there is a GPU."""

import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from services.evaluator import scoring
from services.trainer.lean_adamw import LeanAdamW
from tests.gpu import __main__ as gpu
from tests.gpu import int8, scores, training
from tests.gpu.check import Check, Machine, Outcome, SkippedError, WrongAnswerError, largest_difference
from tests.support.data import ROOT

pytestmark = pytest.mark.filterwarnings("ignore")

TINY = Machine(torch.device("cpu"), tiny=True)
NEEDS = {
    "GPUs are claimed": "needs a GPU: none can be claimed",
    "memory runs out": "needs a GPU: a CPU's memory isn't torch's to limit",
}
SLOW = ("FlexAttention, compiled",)
"""`test_flexible.py` compares the same, and more of it."""


@pytest.mark.parametrize("check", [one for one in gpu.CHECKS if one.name not in SLOW], ids=lambda check: check.name)
def test_a_check_is_right_on_a_cpu_or_says_what_it_lacks(check: Check) -> None:
    outcome = gpu.outcome_of(check, TINY, 300)
    if outcome.verdict == "skipped":
        assert outcome.said == NEEDS.get(check.name) or outcome.said.startswith("this release has no training.memory")
    else:
        assert outcome.verdict == "ok", outcome.said


def test_a_wrong_score_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = scoring._totals
    monkeypatch.setattr(scoring, "_totals", lambda logits: real(logits) + 0.01)
    with pytest.raises(WrongAnswerError, match="log-likelihoods differ by up to 0"):
        scores.in_float32(TINY)


def test_an_optimiser_that_moves_weights_otherwise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real, updates = LeanAdamW.update, itertools.count()

    def faster(lean: LeanAdamW, *given: Any) -> None:
        wrong = 1.2 if next(updates) < training.STEPS else 1.0  # on the device, which comes first
        real(lean, *given[:-2], wrong * given[-2], given[-1])

    monkeypatch.setattr(LeanAdamW, "update", faster)
    with pytest.raises(WrongAnswerError, match=r"^weights move \d+\.\d% differently from a CPU's"):
        training.states_of_8_bits(TINY)


def test_a_gpu_that_has_failed_for_good_does_not_end_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    class Failed(Machine):
        def empty(self) -> None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    checks = [Check("first", broken, 10), Check("second", broken, 10)]
    found = list(gpu.outcomes_of(checks, Failed(torch.device("cpu"), tiny=True)))
    assert [outcome.verdict for outcome in found] == ["FAILED", "FAILED"]
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SkippedError, match="bitsandbytes is not installed"):
        int8.sizes_and_logits(TINY)


def wrong(_: Machine) -> str:
    raise WrongAnswerError("3 instead of 2")


def broken(_: Machine) -> str:
    raise RuntimeError("CUDA error: something\nand more of it")


def slow(_: Machine) -> str:
    time.sleep(30)
    return "never"


def lacking(_: Machine) -> str:
    raise SkippedError("no such thing")


@pytest.mark.parametrize(
    ("run", "verdict", "said"),
    [
        (wrong, "WRONG", "3 instead of 2"),
        (broken, "FAILED", "RuntimeError: CUDA error: something"),
        (slow, "FAILED", "not done in 1 s"),
        (lacking, "skipped", "no such thing"),
        (lambda _: "fine", "ok", "fine"),
    ],
)
def test_what_came_of_a_check_is_told(run: Callable[[Machine], str], verdict: str, said: str) -> None:
    outcome = gpu.outcome_of(Check("this", run, 1), TINY, 100)
    assert (outcome.name, outcome.verdict, outcome.said) == ("this", verdict, said)
    assert outcome.seconds < 10


def test_a_check_for_which_no_time_is_left_is_skipped_and_the_others_are_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    checks = [Check("long", wrong, 400), Check("short", lambda _: "done", 10)]
    found = [replace(outcome, seconds=0) for outcome in gpu.outcomes_of(checks, TINY, seconds=50)]
    assert found == [
        Outcome("long", "skipped", 0, "50 s are left, it may take 400 s"),
        Outcome("short", "ok", 0, "done"),
    ]
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [["long", "skipped"], ["short", "ok"]]


@pytest.mark.parametrize(
    ("checks", "code"), [([lacking], 0), ([lacking, wrong], 1), ([broken], 1), ([lambda _: "fine"], 0)]
)
def test_only_what_is_wrong_or_fails_makes_the_command_fail(
    checks: list[Callable[[Machine], str]],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(gpu, "CHECKS", [Check(str(number), run, 10) for number, run in enumerate(checks)])
    monkeypatch.setattr(gpu, "_settle", lambda: None)
    assert gpu.main(["--tiny"]) == code
    assert "nasfarm as its sources are here" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)])
def test_without_a_gpu_one_line_says_so_and_in_ci_it_is_a_failure(
    ci: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CI", ci)
    assert gpu.main([]) == code
    assert capsys.readouterr().out == "test-gpu: skipped, torch sees no GPU here\n"


def test_the_checks_fit_into_eight_minutes_one_by_one() -> None:
    assert gpu.SECONDS < 8 * 60 and max(check.seconds for check in gpu.CHECKS) <= gpu.SECONDS
    assert len({check.name for check in gpu.CHECKS}) == len(gpu.CHECKS)
    assert f"timeout --kill-after=5 {gpu.SECONDS + 25} " in (ROOT / "tests" / "gpu" / "run.sh").read_text()


@pytest.mark.parametrize(("lacks", "said"), [("pydantic", "no pydantic; get it by "), ("", "-m tests.gpu some")])
def test_the_script_says_what_a_machine_lacks_before_it_begins(lacks: str, said: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nif [ "$1" = -c ]; then echo {lacks}; else echo "$@"; fi\n')
    python.chmod(0o755)
    copy = tmp_path / "tests" / "gpu"
    copy.mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "gpu" / "run.sh", copy)
    ended = subprocess.run(
        ["sh", copy / "run.sh", "some"],
        env={**os.environ, "PYTHON": str(python)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == bool(lacks) and said in ended.stdout + ended.stderr


def test_the_checks_are_found_where_another_package_has_brought_tests_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").touch()
    found = subprocess.run(
        [sys.executable, "-S", "-c", "from importlib.util import find_spec; print(find_spec('tests.gpu') is not None)"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path)))},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "True\n"


def test_a_number_that_is_none_is_infinitely_far_off() -> None:
    ones = torch.ones(2)
    assert largest_difference([ones], [ones]) == 0
    assert largest_difference([ones], [torch.tensor([1.0, 1.5])]) == 0.5
    assert largest_difference([torch.tensor([1.0, float("nan")])], [ones]) == float("inf")
