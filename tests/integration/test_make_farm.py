"""A farm of processes as `make farm` brings it up: a search to its end, with evaluator and supervisor killed."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from deploy.farm.daemon import supervisor_of
from deploy.farm.orphans import farm_processes
from deploy.farm.ports import free_port
from shared.settings import parse_settings
from tests.chaos.arena import search_values, write_supernet
from tests.integration.test_killed_search import measurements, stored
from tests.support.command import search_file
from tests.support.made_farm import MadeFarm, made_farm

EVALUATIONS = 36


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[MadeFarm]:
    with made_farm(tmp_path) as farm:
        yield farm


def test_a_farm_is_asked_for_twice_at_once_then_with_evaluators_that_can_not_measure_and_then_elsewhere(
    farm: MadeFarm,
) -> None:
    values = search_values("tiny", 0, 40, 8)
    supernet = farm.directory.store.place("any")
    write_supernet(supernet, parse_settings(values, "test"))  # without weights
    search = farm.path / "search.yaml"
    search.write_text(yaml.safe_dump(values))
    asked = ("farm", "--search", search, "--evaluators", 0, "--port", free_port())
    with ThreadPoolExecutor() as pool:
        ended = list(pool.map(lambda number: farm.run(*asked, output=f"output-{number}"), range(2)))
    assert [each.returncode for each in ended] == [0, 0], [each.stdout for each in ended]
    (coordinator,) = farm.states("coordinator-")
    assert (coordinator.state, coordinator.restarts) == ("running", 0)

    for begun in (1, 2):  # asked for again it tries again, and says again what is wrong
        failed = farm.run("farm", "--evaluators", 1)
        (evaluator,) = farm.states("evaluator-")
        assert failed.returncode == 2 and f"farm: {evaluator.name} ended: nasfarm: " in failed.stdout, failed.stdout
        assert "fix that and run the same command again" in failed.stdout
        log = (farm.directory.logs / f"{evaluator.name}.log").read_text()
        assert log.count("nasfarm: ") == begun
    assert farm.states("coordinator-")[0].pid == coordinator.pid  # all else went on
    assert "ended" in farm.make("status")

    farm.make("down")
    moved = MadeFarm(farm.path / "moved")
    moved.path.mkdir()
    for name in (".farm", "runs", "supernets"):
        (farm.path / name).rename(moved.path / name)
    assert "queues are created again" in moved.make("farm", "--evaluators", 0)
    assert [state.state for state in moved.states("coordinator-")] == ["running"]
    moved.make("destroy")
    assert farm_processes(moved.directory.path) == [] and not moved.directory.path.exists()


def test_a_farm_searches_to_the_end_though_an_evaluator_and_the_supervisor_are_killed(farm: MadeFarm) -> None:
    search = search_file(
        farm.path,
        training={"data": "plain_facts", "steps": 0, "calibration_tokens": 512},
        search={"evaluations": EVALUATIONS, "population": 12},
    )
    run = farm.directory.runs / "tiny"
    output = farm.make("farm", "--search", search, "--evaluators", 1, "--port", free_port())
    assert "make status" in output and str(run / "report.html") in output
    assert farm.directory.path.stat().st_mode & 0o777 == 0o700

    (first,) = farm.states("evaluator-")
    assert first.pid is not None
    farm.wait_for(lambda: stored(run))
    os.kill(first.pid, signal.SIGSTOP)  # with a request in hand, so that the search can't end
    farm.make("scale", "--evaluators", 2)
    farm.wait_for(lambda: [state.state for state in farm.states("evaluator-")] == ["running", "running"])
    os.kill(first.pid, signal.SIGKILL)
    farm.wait_for(lambda: farm.states(first.name)[0].restarts == 1)
    assert "evaluator-" in farm.make("status")

    supervisor = supervisor_of(farm.directory)
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    farm.wait_for(lambda: supervisor_of(farm.directory) is None)
    orphans = set(farm_processes(farm.directory.path))
    assert orphans  # RabbitMQ at least
    farm.make("farm")
    assert not orphans & set(farm_processes(farm.directory.path))
    farm.wait_for(lambda: [state.exit_code for state in farm.states("coordinator-")] == [0])
    farm.wait_for(lambda: not farm.states("evaluator-"))  # nobody has work for them any more
    assert (run / "report.html").is_file() and json.loads((run / "front.json").read_text())
    identities = [identity for identity, _ in measurements(run)]
    assert len(identities) == len(set(identities)) >= EVALUATIONS

    assert "make farm" in farm.make("down")
    assert farm_processes(farm.directory.path) == []
    assert (farm.directory.broker_files / "data").is_dir()
    assert farm.run("status").returncode == 2
    farm.make("destroy")
    assert not farm.directory.path.exists() and (run / "report.html").is_file()
