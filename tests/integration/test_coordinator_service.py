"""`nasfarm search --broker` as a service: without torch, watched, stopped, told to leave, and beside another search."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.application.packages import MODELS
from shared.broker import requests_queue
from tests.integration.test_killed_search import measurements, stored
from tests.support.command import NASFARM, Ended, nasfarm
from tests.support.data import ROOT
from tests.support.farm import PretendedFarm
from tests.support.rabbitmq import Node

BLOCKED = """
import importlib.abc, sys
from services.cli.main import main

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
sys.argv = ["nasfarm", *sys.argv[1:]]
main()
"""
WITHOUT_MODELS = (sys.executable, "-c", BLOCKED.format(blocked=sorted(MODELS)))
"""The command where nothing of the extra `models` can be imported."""

Make = Callable[..., PretendedFarm]


@pytest.fixture
def make(node: Node, tmp_path: Path) -> Iterator[Make]:
    made: list[PretendedFarm] = []

    def make(**options: Any) -> PretendedFarm:
        made.append(PretendedFarm(node.farm(), tmp_path, **options))
        return made[-1]

    yield make
    for farm in made:
        farm.end()


def events(log: Path) -> list[dict[str, Any]]:
    """What a service logged; every line is JSON."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_a_search_over_tls_needs_no_library_of_models_and_logs_events(make: Make) -> None:
    farm = make(tls=True)
    farm.evaluator()
    assert farm.ended(farm.search("one", WITHOUT_MODELS), "one") == 0
    assert measurements(farm.runs / "one") == measurements(farm.undisturbed("one"))
    assert "</html>" in (farm.runs / "one" / "report.html").read_text()
    logged = events(farm.log_of("one"))
    assert {each["search"] for each in logged} == {"one"}
    assert [each["evaluations"] for each in logged if each["event"] == "generation done"] == [8, 16, 24]
    counted = [(each["stage"], each["measured"], each["planned"]) for each in logged if "stage" in each]
    assert ("search", 24, 24) in counted and counted[-1][0] == "report" and counted[-1][1] == counted[-1][2]
    assert logged[-1]["event"] == "report written"


def test_without_super_network_and_libraries_one_line_says_who_makes_it(make: Make) -> None:
    farm = make()
    (farm.runs / "one" / "supernet" / "supernet.json").unlink()
    assert farm.ended(farm.search("one", WITHOUT_MODELS), "one") == 2
    line = farm.log_of("one").read_text()
    assert line.count("\n") == 1 and line.startswith("nasfarm: ")
    assert "`nasfarm train`" in line and "nasfarm[models]" in line


def test_what_needs_a_model_says_in_one_line_what_to_install(tmp_path: Path) -> None:
    for arguments in (["search", "s.yaml"], ["init", "some/model", "-o", str(tmp_path / "s.yaml")]):
        ended = subprocess.run([*WITHOUT_MODELS, *arguments], capture_output=True, text=True, cwd=ROOT, check=False)
        assert ended.returncode == 2 and ended.stdout == ""
        assert re.fullmatch(r"nasfarm: \w+ isn't installed here: pip install 'nasfarm\[models\]'\n", ended.stderr)


def test_a_search_whose_queues_are_missing_ends_with_one_line_after_it_told_the_digest(make: Make) -> None:
    farm = make()
    farm.remove_queues()
    assert farm.ended(farm.search("one"), "one") == 2
    *logged, line = farm.log_of("one").read_text().splitlines()
    assert json.loads(logged[0])["supernet"] == farm.digest
    assert re.match(rf"nasfarm: (requests.{farm.digest}.v5|results.one): the broker has no such queue; ", line)


def test_what_evaluators_find_wrong_with_the_request_ends_the_search_in_one_line(make: Make) -> None:
    farm = make()
    farm.evaluator("--fail", "bad_request=1.0")
    assert farm.ended(farm.search("one"), "one") == 2
    *logged, line = farm.log_of("one").read_text().splitlines()
    assert line == "nasfarm: the stand-in was told so"
    assert [json.loads(each)["event"] for each in logged] == ["search ready"]


def test_two_searches_side_by_side_each_end_like_one_that_is_alone(make: Make) -> None:
    farm = make(searches=("left", "right"))
    for _ in range(2):
        farm.evaluator("--seconds", "0:0.1")
    # Without a port of their own they serve metrics wherever there is room.
    both = {name: farm.search(name, NASFARM_TELEMETRY_PORT="") for name in ("left", "right")}
    for name, process in both.items():
        assert farm.ended(process, name) == 0, farm.log_of(name).read_text()
    ready = [next(each for each in events(farm.log_of(name)) if each["event"] == "search ready") for name in both]
    assert ready[0]["telemetry_port"] != ready[1]["telemetry_port"]
    for name in both:
        assert measurements(farm.runs / name) == measurements(farm.undisturbed(name))
    assert measurements(farm.runs / "left") != measurements(farm.runs / "right")


def test_a_farm_is_watched_and_a_search_stopped_and_told_to_leave_goes_on_as_if_nothing_had_happened(
    make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    farm = make()
    run = farm.runs / "one"

    def asked(*arguments: object) -> Ended:
        ended = nasfarm(capsys, monkeypatch, *arguments, *farm.broker("operator"))
        assert ended.code == 0, ended
        return ended

    assert "No search or evaluator has announced itself" in asked("status").output
    search = farm.search("one")
    farm.wait(lambda: "search ready" in farm.log_of("one").read_text(), "one")
    ready = next(each for each in events(farm.log_of("one")) if each["event"] == "search ready")
    assert scraped(ready["telemetry_port"], "/readyz") == "ok\n"
    shown = asked("status").output
    assert f"No evaluator of super-network {farm.digest} is there" in shown and "0 of 24" in shown

    slow = farm.evaluator("--seconds", "3")
    farm.wait(lambda: stored(run) >= 1, "one")
    metrics = scraped(ready["telemetry_port"], "/metrics")
    assert "nasfarm_coordinator_candidates_planned 24.0" in metrics
    shown = asked("status").output
    for words in ("one", "searching", "stand-in", requests_queue(farm.digest), "results.one", "dead-letters"):
        assert words in shown
    status = json.loads(asked("status", "--json").output)
    assert [each["state"] for each in status["searches"]] == ["searching"]
    assert status["searches"][0]["planned"] == 24 and status["searches"][0]["silent_seconds"] is None
    assert [each["device"] for each in status["evaluators"]] == ["stand-in"]
    assert status["queues"]["results.one"]["consumers"] == 1

    assert "one has stopped: the same search command resumes it" in asked("stop", "one").output
    assert farm.ended(search, "one") == 0
    assert events(farm.log_of("one"))[-1]["event"] == "search stopped"
    assert "one has stopped already" in asked("stop", "one").output

    slow.kill()
    farm.evaluator("--seconds", "0.5")
    search, before = farm.search("one", (NASFARM,)), stored(run)  # as it is installed, with its exit
    farm.wait(lambda: stored(run) >= before + 3, "one")
    search.send_signal(signal.SIGTERM)
    assert farm.ended(search, "one") == 128 + signal.SIGTERM
    assert (
        farm.log_of("one").read_text().endswith("nasfarm: interrupted; the same command resumes from what is stored\n")
    )

    farm.evaluator()
    assert farm.ended(farm.search("one"), "one") == 0
    assert measurements(run) == measurements(farm.undisturbed("one"))
    assert "finished" in asked("status").output


def test_a_search_that_the_farm_doesnt_know_cant_be_stopped(
    make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    farm = make()
    ended = nasfarm(capsys, monkeypatch, "stop", "another", *farm.broker("operator"))
    assert ended.code == 2
    assert ended.error.count("\n") == 1 and ended.error.startswith("nasfarm: another: no search of this name")


def scraped(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        text: str = answer.read().decode()
    return text
