"""Five search files of one recipe: one fine-tuning, five fronts, and killed anywhere the same commands go on."""

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from deploy.farm.ports import free_port
from services.application.supernet_store import SupernetStore
from tests.integration.test_killed_search import measurements, stored
from tests.support.command import Ended, nasfarm
from tests.support.forked import ForkedCommand
from tests.support.made_farm import MadeFarm
from tests.support.sharing import STEPS, five_search_files

PATIENCE_SECONDS = 240


def killed_when(moment: Callable[[], bool], *arguments: object) -> None:
    """Run the command and kill it at a moment."""
    process = ForkedCommand(*arguments)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not moment():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.01)
    process.kill()
    process.communicate()


def steps_done(directory: Path) -> list[int]:
    """The steps of all fine-tunings there were, as far as they were noted."""
    logs = sorted(directory.glob("*/training.jsonl"))
    return [json.loads(line)["step"] for log in logs for line in log.read_text().splitlines()]


def recipe(run: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(run / "history.sqlite")) as connection:
        (text,) = connection.execute("select value from about where key = 'recipe'").fetchone()
    found: dict[str, Any] = json.loads(text)
    return found


def check_what_came_out(runs: Path, names: list[str]) -> None:
    """One super-network, fine-tuned once, and a front of each search over it."""
    (supernet,) = SupernetStore(runs.parent / "supernets").all()
    assert set(steps_done(runs.parent / "supernets")) == set(range(STEPS))
    for name in names:
        assert recipe(runs / name)["supernet"] == supernet.manifest.digest
        assert json.loads((runs / name / "front.json").read_text())["front"]
        assert (runs / name / "supernet").resolve() == supernet.directory
        identities = [identity for identity, _ in measurements(runs / name)]
        assert len(identities) == len(set(identities))
    assert len({json.dumps(measurements(runs / name)) for name in names}) == len(names)


def test_five_searches_in_one_process_each_share_a_super_network_though_two_are_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NASFARM_DATA", raising=False)
    monkeypatch.setenv("NASFARM_THREADS", "1")
    files, runs, supernets = five_search_files(tmp_path), tmp_path / "runs", tmp_path / "supernets"

    def search(name: str) -> Ended:
        ended = nasfarm(capsys, monkeypatch, "search", files[name], "--runs", runs)
        assert ended.code == 0, ended
        return ended

    command = ("search", files["accuracy"], "--runs", runs)
    killed_when(lambda: any(supernets.glob("*/training/state.json")), *command)
    assert "of 40 steps" in nasfarm(capsys, monkeypatch, "status", runs / "accuracy").output
    begun = steps_done(supernets)
    assert "there already" not in search("normalised").output  # the fine-tuning is resumed for another search
    done = steps_done(supernets)
    assert done[: len(begun)] == begun and done[len(begun)] > 0, "it started over"
    made = {file: file.stat().st_mtime_ns for file in supernets.glob("*/*")}

    killed_when(lambda: stored(runs / "accuracy") >= 3, *command)
    for name in ("few-shot", "accuracy", "evolved", "reseeded"):
        assert "there already: made in 40 steps" in search(name).output
    assert {file: file.stat().st_mtime_ns for file in supernets.glob("*/*")} == made
    check_what_came_out(runs, list(files))

    shown = nasfarm(capsys, monkeypatch, "status", "--runs", runs).output
    assert all(name in shown for name in files) and "kB" in shown
    (directory,) = (path for path in supernets.iterdir() if path.is_dir())
    refused = nasfarm(capsys, monkeypatch, "remove", directory.name[:8], "--runs", runs)
    assert refused.code == 2 and "needed by" in refused.error and directory.is_dir()
    assert (
        "the super-network is finished"
        in nasfarm(capsys, monkeypatch, "train", files["reseeded"], "--runs", runs).output
    )


def test_five_searches_on_a_farm_share_a_super_network_its_queue_and_its_evaluator_though_these_are_killed(
    local_farm: MadeFarm,
) -> None:
    files, runs = five_search_files(local_farm.path), local_farm.directory.runs
    first, *others = files
    local_farm.make("farm", "--search", files[first], "--evaluators", 1, "--port", free_port())

    def search_too(name: str) -> subprocess.CompletedProcess[str]:
        return local_farm.run("farm", "--search", files[name], output=f"output-{name}")

    with ThreadPoolExecutor() as pool:  # at once: an evaluator leaves when no search is left, and starts for seconds
        for ended in pool.map(search_too, others):
            assert ended.returncode == 0 and "there already" in ended.stdout, ended.stdout
    names = {state.name for state in local_farm.states("evaluator-")}
    assert len(names) <= 1  # none any more, if all were quick
    local_farm.wait_for(lambda: all(stored(runs / name) for name in files))
    for state in [*local_farm.states("evaluator-"), *local_farm.states("coordinator-")]:
        if state.pid is not None and state.state == "running":
            os.kill(state.pid, signal.SIGKILL)
    local_farm.wait_for(lambda: [state.exit_code for state in local_farm.states("coordinator-")] == [0] * len(files))
    check_what_came_out(runs, list(files))
    assert "make farm" in local_farm.make("down")
    local_farm.make("destroy")
    assert len(SupernetStore(local_farm.path / "supernets").all()) == 1
