"""A GPU for each evaluator of a host. nvidia-smi is pretended, the processes are real."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.evaluator.gpu import claim_gpu
from shared.errors import UserError

REPOSITORY = Path(__file__).parents[2]
GPUS = ["GPU-11111111-aaaa", "GPU-22222222-bbbb", "GPU-33333333-cccc"]

Claim = Callable[[], subprocess.Popen[str]]


def pretend_nvidia_smi(directory: Path, script: str) -> str:
    """Write an `nvidia-smi`; the PATH on which it is found."""
    directory.mkdir(exist_ok=True)
    program = directory / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{directory}:/usr/bin:/bin"


@pytest.fixture
def three_gpus(tmp_path: Path) -> str:
    asked = '[ "$*" = "--query-gpu=uuid --format=csv,noheader" ] || exit 1'
    return pretend_nvidia_smi(tmp_path / "bin", "\n".join([asked, *(f"echo {uuid}" for uuid in GPUS)]))


@pytest.fixture
def claim(three_gpus: str, tmp_path: Path) -> Iterator[Claim]:
    """Starts processes that claim a GPU and keep it."""
    started: list[subprocess.Popen[str]] = []
    environment = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}

    def claim() -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.support.claiming", tmp_path / "locks"],
                cwd=REPOSITORY,
                env={**environment, "PATH": three_gpus},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield claim
    for process in started:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_of_four_processes_that_start_together_three_get_a_gpu_each_and_one_a_line_and_a_killed_one_leaves_its_gpu(
    claim: Claim,
) -> None:
    processes = [claim() for _ in range(4)]
    lines = {process: said(process) for process in processes}
    assert sorted(line for line in lines.values() if line) == [f"{uuid} {uuid}\n" for uuid in GPUS]
    (refused,) = (process for process, line in lines.items() if not line)
    _, error = refused.communicate()
    assert refused.returncode == 1
    assert error.startswith("no GPU is free: other evaluators have all 3 of this host ") and error.count("\n") == 1

    victim = next(process for process, line in lines.items() if line)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert said(claim()) == lines[victim]


def test_a_choice_of_the_user_is_left_alone(three_gpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", three_gpus)
    for chosen in ("0,1", ""):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
        assert claim_gpu(tmp_path / "locks") is None
        assert os.environ["CUDA_VISIBLE_DEVICES"] == chosen
    assert not (tmp_path / "locks").exists()


@pytest.mark.parametrize("script", [None, "echo No devices were found", "echo no driver; exit 9"])
def test_without_a_gpu_that_works_nothing_is_done(
    script: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path) if script is None else pretend_nvidia_smi(tmp_path / "bin", script))
    with caplog.at_level(logging.WARNING):
        assert claim_gpu(tmp_path / "locks") is None
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert bool(caplog.records) == (script is not None and "exit" in script)


def test_locks_that_cant_be_kept_are_said_to_be(
    three_gpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", three_gpus)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file: can't be written"):
        claim_gpu(tmp_path / "file")


def test_the_command_claims_its_gpu_before_torch_is_loaded(tmp_path: Path) -> None:
    script = """
import sys
from services.cli import evaluator
evaluator.claim_gpu = lambda locks: sys.exit(f"{locks} {'torch' in sys.modules}")
evaluator.evaluator(None, "nowhere")
"""
    environment = {**os.environ, "NASFARM_GPU_LOCKS": str(tmp_path / "locks")}
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.stderr == f"{tmp_path}/locks False\n"
