"""What the farm's commands do, with a backend that only writes down what it is asked for."""

import hashlib
import json
import os
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from deploy.farm import __main__ as command_line
from deploy.farm import commands, process_backend, progress
from deploy.farm.process_backend import ProcessBackend
from deploy.farm.state import FarmDirectory, FarmSpec
from deploy.farm.status import ServiceState
from shared.announcements import EvaluatorAnnouncement, SearchAnnouncement
from shared.broker import requests_queue
from shared.checkpoint_files import content_digest
from shared.digest import DIGEST_CHARACTERS
from shared.errors import UserError
from shared.settings import LONGEST_NAME, read_search_file
from tests.chaos.arena import CONFIG, write_supernet
from tests.support.command import search_file
from tests.support.content import digest_of

DIGEST = content_digest({"config.json": hashlib.sha256(json.dumps(CONFIG).encode()).hexdigest()[:DIGEST_CHARACTERS]})
"""Of the super-networks here."""


def heard_evaluator(supernet: str, number: int, **more: Any) -> bytes:
    now = time.time()
    told = EvaluatorAnnouncement(
        name=f"host:{number}", supernet=supernet, device="cpu", state="idle", since=now, sent_at=now, **more
    )
    return told.model_dump_json().encode()


def heard_search(name: str, supernet: str, measured: int) -> bytes:
    told = SearchAnnouncement(
        name=name, supernet=supernet, state="searching", planned=9, measured=measured, sent_at=time.time()
    )
    return told.model_dump_json().encode()


class Recorder:
    """A backend whose services are words in a list."""

    def __init__(self, directory: FarmDirectory) -> None:
        self.directory = directory
        self.asked: list[str] = []
        self.applied: list[FarmSpec] = []
        self.up = False
        self.ends: dict[str, int] = {}
        self.trains = True

    def check(self, farm: FarmSpec) -> None:
        self.asked.append("check")

    def start_broker(self, farm: FarmSpec) -> None:
        self.up = True
        self.asked.append("broker")

    def train(self, farm: FarmSpec, name: str) -> None:
        assert self.directory.search_file(name).is_file() and name in farm.preparing
        self.asked.append(f"train {name}")
        if not self.trains:
            raise UserError("no torch")
        settings = read_search_file(self.directory.search_file(name))
        write_supernet(self.directory.store.place(f"of-{name}"), settings, digest_of(Path("base")))

    def apply(self, farm: FarmSpec) -> None:
        self.applied.append(farm)
        self.asked.append("apply")

    def running(self) -> bool:
        return self.up

    def states(self) -> list[ServiceState]:
        failed = [ServiceState(f"coordinator-{name}", "ended", failed=True) for name, code in self.ends.items() if code]
        return [ServiceState("rabbitmq", "running", "since ever"), *failed] if self.up else []

    def ended(self) -> dict[str, int]:
        return self.ends

    def last_line(self, name: str) -> str:
        return f"nasfarm: {name} is impossible\x1b[2J"

    def announced(self, looks: int) -> list[bytes]:
        """What is announced at the so many-th look."""
        farm = farm_of(self)
        evaluators = [
            heard_evaluator(supernet, number) for supernet in farm.supernets for number in range(farm.evaluators)
        ]
        return [*evaluators, *(heard_search(search.name, search.supernet, looks) for search in farm.searches)]

    def follow_logs(self) -> None:
        self.asked.append("logs")

    def down(self) -> None:
        self.up = False
        self.asked.append("down")

    def destroy(self) -> None:
        self.up = False
        self.asked.append("destroy")


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()  # the model, which isn't read here
    recorder = Recorder(FarmDirectory(tmp_path / ".farm", tmp_path / "runs"))
    monkeypatch.setattr(commands, "backend_of", lambda *_: recorder)
    monkeypatch.setattr(commands, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(commands, "operator_address", lambda *_: "address")
    monkeypatch.setattr(commands, "add_queues", lambda _, names: recorder.asked.append(f"queues {' '.join(names)}"))
    monkeypatch.setattr(progress, "operator_address", lambda *_: "address")
    monkeypatch.setattr(progress, "RabbitBroker", lambda *_: Measuring(recorder))
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.0)
    return recorder


class Measuring:
    """A broker over which all evaluators and searches that are wanted say that they get on."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.looks = 0

    def announced(self, _: float) -> list[bytes]:
        self.looks += 1
        return self.recorder.announced(self.looks)

    def close(self) -> None:
        pass


def run(*arguments: object) -> int:
    return command_line.main([str(argument) for argument in arguments])


def farm_of(backend: Recorder) -> FarmSpec:
    farm = backend.directory.read()
    assert farm is not None
    return farm


def test_a_farm_is_brought_up_step_by_step(backend: Recorder, tmp_path: Path) -> None:
    assert run("farm", "--search", search_file(tmp_path), "--evaluators", 3) == 0
    assert backend.asked == ["check", "broker", "train tiny", f"queues {requests_queue(DIGEST)} results.tiny", "apply"]
    farm = farm_of(backend)
    assert backend.applied == [farm] and farm.evaluators == 3 and farm.preparing == ()
    assert [(search.name, search.supernet) for search in farm.searches] == [("tiny", DIGEST)]


def test_a_search_that_goes_on_has_its_queues_added_again_as_those_of_a_new_release_have_other_names(
    backend: Recorder, tmp_path: Path
) -> None:
    run("farm", "--search", search_file(tmp_path))
    run("down")
    backend.asked.clear()
    assert run("farm") == 0
    assert backend.asked == ["check", "broker", f"queues {requests_queue(DIGEST)} results.tiny", "apply"]


def test_a_search_whose_super_network_could_not_be_made_is_tried_again(
    backend: Recorder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backend.trains = False
    assert run("farm", "--search", search_file(tmp_path)) == 2
    assert capsys.readouterr().err == "farm: no torch\n"
    backend.trains = True
    assert run("farm") == 0
    assert [search.name for search in farm_of(backend).searches] == ["tiny"]


def test_what_is_not_said_again_stays_and_what_is_under_way_is_left_alone(backend: Recorder, tmp_path: Path) -> None:
    search = search_file(tmp_path)
    assert run("farm", "--search", search, "--evaluators", 3, "--port", 5999) == 0
    before = farm_of(backend)
    assert run("down") == run("farm") == run("farm", "--search", search) == 0
    assert farm_of(backend) == before.model_copy(update={"asked": before.asked + 2})
    assert backend.asked.count("train tiny") == 1


def test_a_second_search_runs_beside_the_first(backend: Recorder, tmp_path: Path) -> None:
    assert run("farm", "--search", search_file(tmp_path)) == 0
    assert run("farm", "--search", search_file(tmp_path, name="other")) == 0
    assert [search.name for search in backend.applied[-1].searches] == ["tiny", "other"]


def test_searches_of_one_recipe_share_the_super_network_its_queue_and_its_evaluators(
    backend: Recorder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("farm", "--search", search_file(tmp_path))
    run("farm", "--search", search_file(tmp_path, name="other", search={"evaluations": 7, "population": 3}))
    assert "there already" in capsys.readouterr().out
    assert [each for each in backend.asked if each.startswith("train")] == ["train tiny"]
    assert f"queues {requests_queue(DIGEST)} results.other" in backend.asked
    assert farm_of(backend).supernets == (DIGEST,)
    links = [backend.directory.supernet(name).resolve() for name in ("tiny", "other")]
    assert links == [backend.directory.store.place("of-tiny")] * 2
    run("farm", "--search", search_file(tmp_path, name="third", training={"data": "plain_facts", "steps": 1}))
    assert "train third" in backend.asked


def test_a_fine_tuning_that_left_nothing_behind_is_said(
    backend: Recorder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "train", lambda *_: None)
    assert run("farm", "--search", search_file(tmp_path)) == 2
    assert "is not in" in capsys.readouterr().err


def test_a_search_under_way_can_not_become_another(
    backend: Recorder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("farm", "--search", search_file(tmp_path))
    capsys.readouterr()
    assert run("farm", "--search", search_file(tmp_path, remeasure_int8=True)) == 2
    error = capsys.readouterr().err
    assert "being searched with other settings" in error and error.count("\n") == 1


def test_a_search_whose_tasks_are_files_is_refused_before_anything_is_trained(
    backend: Recorder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("farm", "--search", search_file(tmp_path, include_path=str(tmp_path))) == 2
    error = capsys.readouterr().err
    assert "include_path: evaluators of a farm read no tasks from files" in error and error.count("\n") == 1
    assert backend.asked == ["check"]


def test_a_search_whose_file_is_gone_from_the_farm_begins_again(backend: Recorder, tmp_path: Path) -> None:
    search = search_file(tmp_path)
    run("farm", "--search", search)
    backend.directory.search_file("tiny").unlink()
    assert run("farm", "--search", search) == 0
    assert backend.directory.search_file("tiny").read_bytes() == search.read_bytes()


def test_a_search_that_failed_begins_again_and_one_that_is_done_does_not(backend: Recorder, tmp_path: Path) -> None:
    run("farm", "--search", search_file(tmp_path))
    run("farm", "--search", search_file(tmp_path, name="other"))
    backend.ends = {"tiny": 2, "other": 0}
    backend.directory.search_file("tiny").touch()
    assert run("farm") == 2  # it fails again, which is said
    assert {search.name: search.begun for search in farm_of(backend).searches} == {"tiny": 2, "other": 1}
    backend.ends = {"other": 0}
    assert run("down") == 0
    assert [search.name for search in farm_of(backend).searches] == ["tiny"]


def test_why_a_search_ended_at_once_is_said(
    backend: Recorder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "apply", lambda _: backend.ends.update(tiny=2))
    assert run("farm", "--search", search_file(tmp_path)) == 2
    assert capsys.readouterr().err == (
        "farm: coordinator-tiny ended: nasfarm: coordinator-tiny is impossible�[2J; fix that and run the same "
        "command again (the farm is up: make status, make logs, make down)\n"
    )


def test_a_farm_that_is_up_elsewhere_is_not_moved(
    backend: Recorder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("farm", "--search", search_file(tmp_path))
    capsys.readouterr()
    assert run("farm", "--port", 5998) == run("deploy") == 2
    assert capsys.readouterr().err.count("a farm is up on port 5672 by `make farm`; `make down` ends it first") == 2
    run("down")
    backend.asked.clear()
    assert run("deploy") == 0
    assert f"queues {requests_queue(DIGEST)} results.tiny" in backend.asked  # which another broker doesn't have
    assert "train tiny" not in backend.asked


def test_scaling_changes_the_number_alone(backend: Recorder, tmp_path: Path) -> None:
    run("farm", "--search", search_file(tmp_path), "--evaluators", 1)
    before = farm_of(backend)
    assert run("scale", "--evaluators", 4) == 0
    assert backend.applied[-1] == farm_of(backend) == before.model_copy(update={"evaluators": 4})


def test_scaling_takes_its_turn_as_the_other_commands_do(
    backend: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("farm", "--search", search_file(tmp_path), "--evaluators", 1)
    monkeypatch.setattr(
        backend, "apply", lambda _: backend.asked.append((backend.directory.path / ".turn").read_text())
    )
    assert run("scale", "--evaluators", 4) == 0
    assert backend.asked[-1] == f"`make scale`, process {os.getpid()}"


def test_a_farm_is_left_running_when_the_command_that_waits_for_it_is_interrupted(
    backend: Recorder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> list[bytes]:
        raise KeyboardInterrupt

    monkeypatch.setattr(backend, "announced", interrupt)
    assert run("farm", "--search", search_file(tmp_path)) == 130
    assert "no longer waiting; the farm keeps running: make status, make down" in capsys.readouterr().err
    assert backend.up and backend.asked[-1] == "apply"


def test_a_farm_that_was_moved_begins_with_new_queues_and_one_that_was_copied_leaves_the_other_alone(
    backend: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    search = search_file(tmp_path)
    assert run("farm", "--search", search) == 0
    for place, ended in (("copied", 0), ("moved", 1)):
        new = tmp_path / place
        new.mkdir()
        for name in (".farm", "runs", "supernets"):
            shutil.copytree(tmp_path / name, new / name, symlinks=True)
        (new / ".farm" / "rabbitmq" / "data").mkdir()
        if ended:
            (tmp_path / ".farm").rename(tmp_path / "gone")
        backend.up, backend.asked = False, []
        backend.directory = FarmDirectory(new / ".farm", new / "runs")
        monkeypatch.chdir(new)
        for times in (1, 2):  # the second time they are asked for as those of a search that continues
            assert run("farm") == 0
            assert backend.asked.count(f"queues {requests_queue(DIGEST)} results.tiny") == times
        assert backend.asked.count("down") == ended and "train tiny" not in backend.asked
        assert not (new / ".farm" / "rabbitmq" / "data").exists()
        assert (
            capsys.readouterr().out.count(f"Moved          from {tmp_path / '.farm'}: the queues are created again")
            == 1
        )


def test_a_farm_that_runs_under_another_path_of_the_same_directory_is_not_taken_for_moved(
    backend: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("farm", "--search", search_file(tmp_path)) == 0
    before, data = farm_of(backend), tmp_path / ".farm" / "rabbitmq" / "data"
    data.mkdir()
    (tmp_path / "again").symlink_to(tmp_path)
    backend.directory = FarmDirectory(tmp_path / "again" / ".farm", tmp_path / "again" / "runs")
    monkeypatch.setattr(commands, "MOVED_SECONDS", 0.0)
    capsys.readouterr()
    with pytest.raises(UserError, match=f"the farm still runs from {tmp_path}/.farm; run `make down` there first"):
        commands.bring_up(backend.directory, "processes", None)
    assert data.is_dir() and farm_of(backend) == before


def test_a_farm_that_an_earlier_release_had_elsewhere_was_moved_too(tmp_path: Path) -> None:
    directory = FarmDirectory(tmp_path / ".farm", tmp_path / "runs")
    directory.make()
    assert directory.previous_place() is None
    for place, former in (
        ("/etc/nasfarm", None),
        (f"{tmp_path}/.farm/rabbitmq", None),
        ("/a b/.farm/rabbitmq", "/a b/.farm"),
    ):
        (directory.broker_files / "rabbitmq.conf").write_text(f"x = 1\nload_definitions = {place}/definitions.json\n")
        found = directory.previous_place()
        assert (found and str(found.path)) == former
    directory.record_place()
    assert directory.previous_place() is None


def test_a_new_search_has_no_longer_name_than_fits_and_an_old_one_keeps_its_own(
    backend: Recorder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("farm", "--search", search_file(tmp_path, name="n" * LONGEST_NAME)) == 0
    for length in (LONGEST_NAME + 1, 300):
        capsys.readouterr()
        assert run("farm", "--search", search_file(tmp_path, name="o" * length)) == 2
        error = capsys.readouterr().err
        assert f"name: should have at most 100 characters, and has {length}" in error and error.count("\n") == 1
    (tmp_path / "runs" / ("o" * 200)).mkdir()
    assert run("farm", "--search", search_file(tmp_path, name="o" * 200)) == 0


@pytest.mark.parametrize("number", ["", "-1", "many", "1.5"])
def test_a_number_of_evaluators_that_is_none_is_refused(
    backend: Recorder, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run("scale", f"--evaluators={number}")
    assert ended.value.code == 2
    assert "is no whole number from 0 to 1000" in capsys.readouterr().err
    assert backend.asked == []


@pytest.mark.parametrize("command", [["status"], ["logs"], ["scale", "--evaluators", 2]])
def test_without_a_farm_one_line_says_how_to_have_one(
    backend: Recorder, command: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*command) == 2
    assert capsys.readouterr().err == "farm: no farm is up; `make farm` or `make deploy` brings one up\n"


def test_down_and_destroy_without_a_farm_are_no_error(backend: Recorder) -> None:
    assert run("down") == run("destroy") == 0


def test_destroying_leaves_the_runs_and_the_super_networks(backend: Recorder, tmp_path: Path) -> None:
    run("farm", "--search", search_file(tmp_path))
    assert run("destroy") == 0
    assert backend.asked[-2:] == ["apply", "destroy"]
    assert not (tmp_path / ".farm").exists() and (tmp_path / "runs" / "tiny" / "supernet").is_dir()
    assert [each.directory.name for each in backend.directory.store.all()] == ["of-tiny"]


def test_a_taken_port_and_a_missing_program_are_said_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = FarmDirectory(tmp_path / ".farm", tmp_path / "runs")
    directory.make()
    monkeypatch.setattr("deploy.farm.rabbitmq.SERVER", tmp_path / "nowhere")
    with pytest.raises(UserError, match="RabbitMQ is missing; install rabbitmq-server"):
        ProcessBackend(directory).check(FarmSpec(backend="processes"))
    monkeypatch.setattr(process_backend, "check_installed", lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} of 127.0.0.1 is in use"):
            ProcessBackend(directory).check(FarmSpec(backend="processes", port=port))
    ProcessBackend(directory).check(FarmSpec(backend="processes", port=port))


def test_a_supervisor_that_has_ended_is_reported(tmp_path: Path) -> None:
    directory = FarmDirectory(tmp_path / ".farm", tmp_path / "runs")
    directory.make()
    with pytest.raises(UserError, match="supervisor has ended; `make farm` starts it again"):
        ProcessBackend(directory).apply(FarmSpec(backend="processes"))


def test_how_processes_are_is_told_with_the_last_line_of_what_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = FarmDirectory(tmp_path / ".farm", tmp_path / "runs")
    directory.make()
    told = [
        {"name": "rabbitmq", "state": "running", "since": 0, "pid": 7, "restarts": 2},
        {"name": "coordinator-tiny", "state": "ended", "since": 0, "exit_code": 2},
    ]
    (directory.path / "processes.json").write_text(json.dumps(told))
    (directory.logs / "coordinator-tiny.log").write_text("much\nnasfarm: fix it\n\n")
    monkeypatch.setattr(process_backend, "supervisor_of", lambda _: 6)
    supervisor, broker, coordinator = ProcessBackend(directory).states()
    assert (supervisor.state, supervisor.detail) == ("running", "process 6")
    assert broker.detail.endswith("process 7, started again 2 times")
    assert coordinator.detail.endswith("exit code 2: nasfarm: fix it")
    assert ProcessBackend(directory).ended() == {"tiny": 2}


def test_a_super_network_that_can_not_be_made_is_said_after_what_nasfarm_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "nasfarm"
    program.write_text('#!/bin/sh\necho "$1 $2" >&2\nexit 2\n')
    program.chmod(0o755)
    monkeypatch.setattr(process_backend, "nasfarm", lambda: str(program))
    monkeypatch.setattr(process_backend, "supervisor_of", lambda _: 6)
    directory = FarmDirectory(tmp_path / ".farm", tmp_path / "runs")
    with pytest.raises(UserError, match="tiny: no super-network was made, for the reason above"):
        ProcessBackend(directory).train(FarmSpec(backend="processes"), "tiny")
    assert capfd.readouterr().err == f"train {directory.search_file('tiny')}\n"
