"""`nasfarm train --processes`: several processes are started, and end together."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.trainer.distributed import launching
from services.trainer.distributed.launching import run_together
from tests.support.command import Run, search_file
from tests.support.forked import ForkedCommand
from tests.support.instructions import few_instructions

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
    ("end", "code", "said"),
    [
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            137,
            "nasfarm: process 1 of 2 was killed by SIGKILL, so all have ended",
        ),
        ("sys.exit(7)", 7, "nasfarm: process 1 of 2 failed with exit code 7, so all have ended; the same command"),
        ("sys.exit(2)", 2, ""),  # it has said what is wrong
    ],
)
def test_one_process_that_fails_ends_all(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    end: str,
    code: int,
    said: str,
) -> None:
    with pytest.raises(SystemExit) as exited:
        ended(tmp_path, f"{end} if rank == 1 else None; {WAITS}", monkeypatch)
    assert exited.value.code == code
    error = capsys.readouterr().err
    assert error.startswith(said) and error.count("\n") == bool(said)
    for path in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name), 0)


def test_a_process_that_was_killed_is_named_and_not_one_that_failed_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launching, "MONITOR_SECONDS", 1.0)  # both are found to have ended at the same time
    with pytest.raises(SystemExit) as exited:
        ended(tmp_path, "os.kill(os.getpid(), signal.SIGKILL) if rank == 1 else sys.exit(1)", monkeypatch)
    assert exited.value.code == 128 + signal.SIGKILL
    assert "process 1 of 2 was killed by SIGKILL" in capsys.readouterr().err


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


def test_the_command_trains_in_several_processes(run: Run, tmp_path: Path) -> None:
    training = {"data": few_instructions(tmp_path), "steps": 3, "tokens_per_step": 256, "calibration_tokens": 256}
    search = search_file(tmp_path, training=training)
    made = run("train", search, "--runs", tmp_path / "runs", "--processes", 2)
    assert made.code == 0, made
    (supernet,) = (tmp_path / "supernets").glob("*/supernet.json")
    again = run("train", search, "--runs", tmp_path / "runs")
    assert again.code == 0 and "the super-network is finished" in again.output
    assert len((supernet.parent / "training.jsonl").read_text().splitlines()) == 3


def test_what_is_wrong_for_all_is_one_line_of_the_first(tmp_path: Path) -> None:
    refused = ForkedCommand("train", tmp_path / "search.yaml", "--processes", 2, WORLD_SIZE="2")
    assert refused.wait() == 2
    assert refused.output == "nasfarm: --processes: torchrun has started several already; leave it out\n"
