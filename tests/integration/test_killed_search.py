"""kill -9 at any moment, the same command again: the front of an undisturbed run, and nothing measured twice."""

import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command import quick_search_file, search_file, start_nasfarm
from tests.support.forked import ForkedCommand
from tests.support.instructions import few_instructions

PATIENCE_SECONDS = 240

Command = ForkedCommand | subprocess.Popen[str]


def test_a_search_that_is_killed_again_and_again_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    search = quick_search_file(tmp_path)
    undisturbed = run_to_the_end(search, tmp_path / "undisturbed" / "runs")
    killed, run = tmp_path / "killed" / "runs", tmp_path / "killed" / "runs" / "tiny"
    supernets = tmp_path / "killed" / "supernets"
    moments: list[Callable[[], bool]] = [
        lambda: any(lines(log) >= 12 for log in supernets.glob("*/training.jsonl")),
        lambda: stored(run) >= 1,
        lambda: stored(run) >= 11,
        lambda: stored(run) >= 42,
    ]
    for moment in moments:
        kill_when(moment, search, killed)
    assert run_to_the_end(search, killed) == undisturbed
    assert measurements(run) == measurements(tmp_path / "undisturbed" / "runs" / "tiny")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_leaves_at_once_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "runs" / "tiny"
    untrained = {"data": few_instructions(tmp_path), "steps": 0, "calibration_tokens": 512}
    search = search_file(tmp_path, training=untrained)
    process = start_nasfarm("search", search, "--runs", run.parent)  # as it is installed, with its exit
    wait_for(lambda: stored(run) >= 1, process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 128 + number, output
    assert "nasfarm: interrupted; the same command resumes" in output
    assert "Traceback" not in output


def run_to_the_end(search: Path, runs: Path) -> object:
    process = ForkedCommand("search", search, "--runs", runs)
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, output
    return json.loads((runs / "tiny" / "front.json").read_text())


def kill_when(moment: Callable[[], bool], search: Path, runs: Path) -> None:
    process = ForkedCommand("search", search, "--runs", runs)
    wait_for(moment, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def wait_for(moment: Callable[[], bool], process: Command) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not moment():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.002)


def lines(path: Path) -> int:
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def stored(run: Path) -> int:
    try:
        return len(measurements(run))
    except sqlite3.OperationalError:
        return 0


def measurements(run: Path) -> list[tuple[str, str]]:
    """Identity and scores of everything measured, in the order of their identities; times differ from run to run."""
    connection = sqlite3.connect(f"file:{run / 'history.sqlite'}?mode=ro", uri=True)
    try:
        rows = connection.execute("select identity, outcome from measurements order by identity").fetchall()
    finally:
        connection.close()
    return [(identity, json.dumps(json.loads(outcome)["scores"])) for identity, outcome in rows]
