"""A farm of processes as `make farm` brings it up: a search to its end, with evaluator and supervisor killed."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import yaml

from deploy.farm.daemon import supervisor_of
from deploy.farm.orphans import farm_processes
from deploy.farm.ports import free_port
from shared.settings import parse_settings
from tests.chaos.arena import search_values, write_supernet
from tests.integration.test_killed_search import measurements, stored
from tests.support.command import search_file
from tests.support.instructions import few_instructions
from tests.support.made_farm import MadeFarm

EVALUATIONS = 36


def test_a_farm_is_asked_for_twice_at_once_then_with_evaluators_that_can_not_measure_and_then_elsewhere(
    local_farm: MadeFarm,
) -> None:
    values = search_values("tiny", 0, 40, 8)
    supernet = local_farm.directory.store.place("any")
    write_supernet(supernet, parse_settings(values, "test"))  # without weights
    search = local_farm.path / "search.yaml"
    search.write_text(yaml.safe_dump(values))
    asked = ("farm", "--search", search, "--evaluators", 0, "--port", free_port())
    with ThreadPoolExecutor() as pool:
        ended = list(pool.map(lambda number: local_farm.run(*asked, output=f"output-{number}"), range(2)))
    assert [each.returncode for each in ended] == [0, 0], [each.stdout for each in ended]
    (coordinator,) = local_farm.states("coordinator-")
    assert (coordinator.state, coordinator.restarts) == ("running", 0)

    for begun in (1, 2):  # asked for again it tries again, and says again what is wrong
        failed = local_farm.run("farm", "--evaluators", 1)
        (evaluator,) = local_farm.states("evaluator-")
        assert failed.returncode == 2 and f"farm: {evaluator.name} ended: nasfarm: " in failed.stdout, failed.stdout
        assert "fix that and run the same command again" in failed.stdout
        log = (local_farm.directory.logs / f"{evaluator.name}.log").read_text()
        assert log.count("nasfarm: ") == begun
    assert local_farm.states("coordinator-")[0].pid == coordinator.pid  # all else kept running
    assert "ended" in local_farm.make("status")

    local_farm.make("down")
    moved = MadeFarm(local_farm.path / "moved")
    moved.path.mkdir()
    for name in (".farm", "runs", "supernets"):
        (local_farm.path / name).rename(moved.path / name)
    assert "queues are created again" in moved.make("farm", "--evaluators", 0)
    assert [state.state for state in moved.states("coordinator-")] == ["running"]
    moved.make("destroy")
    assert farm_processes(moved.directory.path) == [] and not moved.directory.path.exists()


def test_a_farm_searches_to_the_end_though_an_evaluator_and_the_supervisor_are_killed(local_farm: MadeFarm) -> None:
    search = search_file(
        local_farm.path,
        training={"data": few_instructions(local_farm.path), "steps": 0, "calibration_tokens": 512},
        search={"evaluations": EVALUATIONS, "population": 12},
    )
    run = local_farm.directory.runs / "tiny"
    output = local_farm.make("farm", "--search", search, "--evaluators", 1, "--port", free_port())
    assert "make status" in output and str(run / "report.html") in output
    assert local_farm.directory.path.stat().st_mode & 0o777 == 0o700

    (first,) = local_farm.states("evaluator-")
    assert first.pid is not None
    local_farm.wait_for(lambda: stored(run))
    os.kill(first.pid, signal.SIGSTOP)  # with a request in flight, so that the search can't end
    local_farm.make("scale", "--evaluators", 2)
    local_farm.wait_for(lambda: [state.state for state in local_farm.states("evaluator-")] == ["running", "running"])
    (second,) = (state for state in local_farm.states("evaluator-") if state.name != first.name)
    assert second.pid is not None
    os.kill(second.pid, signal.SIGSTOP)  # nor does it end while the first one starts again
    os.kill(first.pid, signal.SIGKILL)
    local_farm.wait_for(lambda: local_farm.states(first.name)[0].restarts == 1)
    assert "evaluator-" in local_farm.make("status")

    supervisor = supervisor_of(local_farm.directory)
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(second.pid, signal.SIGCONT)
    local_farm.wait_for(lambda: supervisor_of(local_farm.directory) is None)
    orphans = set(farm_processes(local_farm.directory.path))
    assert orphans  # RabbitMQ at least
    local_farm.make("farm")
    assert not orphans & set(farm_processes(local_farm.directory.path))
    local_farm.wait_for(lambda: [state.exit_code for state in local_farm.states("coordinator-")] == [0])
    local_farm.wait_for(lambda: not local_farm.states("evaluator-"))  # no search needs them any more
    assert (run / "report.html").is_file() and json.loads((run / "front.json").read_text())
    identities = [identity for identity, _ in measurements(run)]
    assert len(identities) == len(set(identities)) >= EVALUATIONS

    assert "make farm" in local_farm.make("down")
    assert farm_processes(local_farm.directory.path) == []
    assert (local_farm.directory.broker_files / "data").is_dir()
    assert local_farm.run("status").returncode == 2
    local_farm.make("destroy")
    assert not local_farm.directory.path.exists() and (run / "report.html").is_file()
