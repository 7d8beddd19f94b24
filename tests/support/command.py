"""The `nasfarm` command for tests: in this process, or as a real one that can be killed."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.cli.main import main
from tests.support.checkpoints import LAYERS, WIDTH, write_checkpoint
from tests.support.instructions import few_instructions

NASFARM = Path(sys.executable).parent / "nasfarm"


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    output: str
    error: str


Run = Callable[..., Ended]
"""Runs the command with arguments."""


def nasfarm(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> Ended:
    """Run the command in this process."""
    monkeypatch.setattr(sys, "argv", ["nasfarm", *map(str, arguments)])
    capsys.readouterr()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        logging.captureWarnings(False)
    output, error = capsys.readouterr()
    return Ended(int(ended.value.code or 0), output, error)


def refused(ended: Ended, *words: str) -> None:
    """The command ended with exit code 2 and one line that holds these words."""
    assert ended.code == 2, ended
    assert ended.error.count("\n") == 1 and ended.error.startswith("nasfarm: "), ended.error
    for word in words:
        assert word in ended.error, ended.error


def environment(**changes: str) -> dict[str, str]:
    """The variables of a command's process: as here, but for one core, and without data but the built-in."""
    kept = {key: value for key, value in os.environ.items() if key != "NASFARM_DATA"}
    return {**kept, "OMP_NUM_THREADS": "1", "NASFARM_THREADS": "1", "HF_HUB_OFFLINE": "1", **changes}


def start_nasfarm(*arguments: object, **changes: str) -> subprocess.Popen[str]:
    """Start the installed command as a process of its own."""
    return subprocess.Popen(
        [NASFARM, *map(str, arguments)],
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


TRAINING = {
    "data": "plain_facts",
    "steps": 40,
    "tokens_per_step": 256,
    "calibration_tokens": 512,
    "learning_rate": 1e-3,
    "checkpoint_every_seconds": 0.05,
}


def search_file(directory: Path, **changes: Any) -> Path:
    """A search over a tiny random network, which is made where it isn't there yet; `changes` replace top-level keys."""
    base = directory / "base"
    if not base.exists():
        write_checkpoint(base, "llama-grouped-tied")
    values: dict[str, Any] = {
        "name": "tiny",
        "model": str(base),
        "space": {"depths": [LAYERS, LAYERS - 1], "mlp_widths": [WIDTH, WIDTH // 2, WIDTH // 4]},
        "training": TRAINING,
        "tasks": [{"name": "plain_facts", "search": {"items": 120}, "report": {"items": 200}}],
        "search": {"evaluations": 40, "population": 8},
        "dtype": "float32",
    }
    path = directory / "search.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in {**values, **changes}.items() if value is not None}))
    return path


def quick_search_file(directory: Path, **changes: Any) -> Path:
    """The same search, which learns from a few instructions of its own, not from the built-in thousands."""
    training = {**TRAINING, "data": few_instructions(directory)}
    return search_file(directory, **{"training": training, **changes})
