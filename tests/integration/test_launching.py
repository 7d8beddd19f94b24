"""`nasfarm train --processes`: several processes are started, and end together."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.trainer.distributed.launching import run_together
from shared.errors import UserError
from tests.support.command import Run, search_file

RANK = "import os, signal, sys, time; rank, directory = int(os.environ['RANK']), sys.argv[1]; "
"""How a program begins that is started several times."""


def ended(directory: Path, program: str, monkeypatch: pytest.MonkeyPatch, processes: int = 2) -> None:
    """Run a program in several processes, as what starts them does, with what it changes here undone."""
    monkeypatch.setenv("NASFARM_THREADS", "5")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    run_together((sys.executable, "-c", RANK + program, str(directory)), processes)


def test_every_process_knows_its_number_and_has_its_part_of_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "names = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'NASFARM_THREADS', 'OMP_NUM_THREADS'); "
    program += "open(f'{directory}/{rank}', 'w').write(' '.join(os.environ[name] for name in names))"
    ended(tmp_path, program, monkeypatch)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"0": "0 0 2 2 2", "1": "1 1 2 2 2"}


WAITS = "open(f'{directory}/{os.getpid()}', 'w').close(); time.sleep(120)"


@pytest.mark.parametrize(
    ("end", "complaint"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", r"process 1 of 2 was killed by SIGKILL, so all .*; the same command"),
        ("sys.exit(7)", r"process 1 of 2 failed with exit code 7, so all have ended; the same command resumes"),
    ],
)
def test_one_process_that_fails_ends_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint) as refusal:
        ended(tmp_path, f"{end} if rank == 1 else None; {WAITS}", monkeypatch)
    assert "\n" not in str(refusal.value)
    for path in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name), 0)


def test_one_that_has_said_what_is_wrong_leaves_nothing_to_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as exited:
        ended(tmp_path, "sys.exit(2)", monkeypatch)
    assert exited.value.code == 2


def test_a_signal_ends_all_of_them(tmp_path: Path) -> None:
    program = "from services.trainer.distributed.launching import run_together; import sys; run_together({}, 2)"
    command = (sys.executable, "-c", RANK + WAITS, str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", program.format(command)], stderr=subprocess.PIPE, text=True
    ) as starter:
        while len(list(tmp_path.iterdir())) < 2:
            assert starter.poll() is None
            time.sleep(0.05)
        starter.send_signal(signal.SIGTERM)
        _, error = starter.communicate()
    assert starter.returncode == 128 + signal.SIGTERM
    assert "interrupted; the same command resumes" in error and "Traceback" not in error
    for path in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name), 0)


def test_the_command_trains_in_several_processes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = {"data": "plain_facts", "steps": 3, "tokens_per_step": 256, "calibration_tokens": 256}
    search = search_file(tmp_path, training=training)
    made = run("train", search, "--runs", tmp_path / "runs", "--processes", 2)
    assert made.code == 0, made
    (supernet,) = (tmp_path / "supernets").glob("*/supernet.json")
    again = run("train", search, "--runs", tmp_path / "runs")
    assert again.code == 0 and "the super-network is finished" in again.output
    assert len((supernet.parent / "training.jsonl").read_text().splitlines()) == 3
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused = run("train", search, "--runs", tmp_path / "runs", "--processes", 2)
    assert refused.code == 2 and "torchrun has started several already" in refused.error
