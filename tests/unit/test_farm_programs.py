"""Which programs a farm has, and how its file changes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.farm import programs as programs_module
from deploy.farm.orphans import farm_processes, farm_variables, terminate_processes
from deploy.farm.programs import BROKER, FarmPrograms
from deploy.farm.state import FarmDirectory, FarmSpec
from deploy.farm.supervisor import Program
from shared.errors import UserError


@pytest.fixture
def directory(tmp_path: Path) -> FarmDirectory:
    directory = FarmDirectory(tmp_path / ".farm", tmp_path / "runs")
    directory.make()
    return directory


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs_module, "usable_cores", lambda: 4)
    for variable in ("NASFARM_THREADS", "NASFARM_DRAIN_LIMIT"):
        monkeypatch.delenv(variable, raising=False)


def programs(directory: FarmDirectory, farm: FarmSpec, **ended: int) -> list[Program]:
    return FarmPrograms(directory, (1, 2)).wanted(farm, {f"coordinator-{name}": code for name, code in ended.items()})


def evaluators(of: list[Program]) -> list[Program]:
    return [program for program in of if program.name.startswith("evaluator-")]


def test_a_farm_without_searches_is_a_broker(directory: FarmDirectory) -> None:
    (broker,) = programs(directory, FarmSpec(backend="processes", port=5999))
    assert (broker.name, broker.listens, broker.needs) == (BROKER, 5999, None)


def test_evaluators_share_the_cores_and_each_program_has_the_rights_of_its_kind(directory: FarmDirectory) -> None:
    farm = FarmSpec(backend="processes", evaluators=2).with_search("one", "d" * 32)
    _, coordinator, first, second = programs(directory, farm)
    assert coordinator.name == "coordinator-one" and coordinator.finishes
    assert coordinator.command[-1] == str(directory.credentials / "coordinator")
    assert first.command == second.command and first.command[-1] == str(directory.credentials / "evaluator")
    assert [each.name for each in (first, second)] == ["evaluator-dddddddd-1", "evaluator-dddddddd-2"]
    assert first.environment["NASFARM_THREADS"] == "2"
    assert all(each.needs == BROKER and not each.finishes for each in (first, second))


def test_there_is_a_thread_even_where_evaluators_are_more_than_cores(directory: FarmDirectory) -> None:
    farm = FarmSpec(backend="processes", evaluators=9).with_search("one", "d" * 32)
    assert {each.environment["NASFARM_THREADS"] for each in evaluators(programs(directory, farm))} == {"1"}


def test_two_searches_of_one_super_network_share_evaluators_and_those_of_two_do_not(directory: FarmDirectory) -> None:
    shared = FarmSpec(backend="processes", evaluators=2).with_search("one", "d" * 32).with_search("two", "d" * 32)
    assert len(evaluators(programs(directory, shared))) == 2
    apart = FarmSpec(backend="processes", evaluators=2).with_search("one", "d" * 32).with_search("two", "e" * 32)
    assert len(evaluators(programs(directory, apart))) == 4


def test_evaluators_leave_when_the_last_search_of_their_super_network_has_ended(directory: FarmDirectory) -> None:
    farm = FarmSpec(backend="processes", evaluators=1)
    farm = farm.with_search("one", "d" * 32).with_search("two", "d" * 32).with_search("three", "e" * 32)
    before = evaluators(programs(directory, farm))
    assert evaluators(programs(directory, farm, one=0)) == before
    assert [each.name for each in evaluators(programs(directory, farm, one=0, two=2))] == ["evaluator-eeeeeeee-1"]
    assert evaluators(programs(directory, farm, one=0, two=2, three=0)) == []


def test_a_search_that_begins_again_is_the_same_program_started_again(directory: FarmDirectory) -> None:
    farm = FarmSpec(backend="processes", evaluators=0).with_search("one", "d" * 32)
    again = farm.with_search("one", "d" * 32)
    assert [[program.begun for program in programs(directory, each)] for each in (farm, again)] == [[1, 1], [1, 2]]
    assert len(again.searches) == 1


def test_evaluators_begin_again_when_the_farm_is_asked_for_again(directory: FarmDirectory) -> None:
    farm = FarmSpec(backend="processes", evaluators=1).with_search("one", "d" * 32)
    again = farm.model_copy(update={"asked": farm.asked + 1})
    assert [each.begun for each in evaluators(programs(directory, again))] == [2]
    assert programs(directory, again) == programs(directory, farm)  # those that run go on


def test_a_search_is_prepared_until_it_can_run(directory: FarmDirectory) -> None:
    farm = FarmSpec(backend="processes").with_preparing(["one", "two"]).with_preparing(["one"])
    assert farm.preparing == ("one", "two")
    directory.write(farm.with_search("one", "d" * 32))
    read = directory.read()
    assert read is not None
    assert read.preparing == ("two",) and read.searches[0].name == "one"
    assert read.without({"one"}).searches == ()


def test_the_farms_directory_is_for_its_owner_alone(directory: FarmDirectory) -> None:
    assert directory.path.stat().st_mode & 0o777 == 0o700


def test_a_damaged_file_is_said_in_one_line(directory: FarmDirectory) -> None:
    (directory.path / "farm.json").write_text('{"backend": "magic"}')
    with pytest.raises(UserError, match=r"farm\.json: damaged, or of a later release \(backend: .*make destroy"):
        directory.read()


def test_processes_are_found_whoever_started_them(directory: FarmDirectory) -> None:
    script = "import subprocess, sys, time; subprocess.Popen(['sleep', '1000']); time.sleep(1000)"
    mother = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, **farm_variables(directory.path)})
    try:
        while len(farm_processes(directory.path)) < 2:
            assert mother.poll() is None
        mother.kill()
        mother.wait()
        assert len(farm_processes(directory.path)) == 1
    finally:
        terminate_processes(directory.path, 10)
        mother.wait()
    assert farm_processes(directory.path) == []
