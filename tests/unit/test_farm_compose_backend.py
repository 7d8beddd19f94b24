"""What a farm in containers is shown of the machine, without any container."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.farm.compose_backend import ComposeBackend
from deploy.farm.container_engine import Container, ContainerEngine
from deploy.farm.state import FarmDirectory, FarmSpec
from shared.errors import UserError
from shared.failure_policy import CONTAINER_STOP_SECONDS

SETTINGS: dict[str, Any] = {
    "name": "small",
    "space": {"depths": [4, 3], "mlp_widths": [16, 8]},
    "tasks": [{"name": "plain_facts", "search": {"items": 40}, "report": {"items": 60}}],
    "search": {"evaluations": 20, "population": 8},
}


class Recorded(ContainerEngine):
    """An engine of which only the containers are known."""

    there: tuple[Container, ...] = ()

    def containers(self, farm: str) -> list[Container]:
        return list(self.there)


def backend(directory: Path, monkeypatch: pytest.MonkeyPatch, *there: Container) -> ComposeBackend:
    engine = Recorded("podman", ("podman-compose",), rootless=True)
    monkeypatch.setattr(Recorded, "there", there)
    monkeypatch.setattr(ContainerEngine, "find", lambda: engine)
    monkeypatch.delenv("NASFARM_DATA", raising=False)
    return ComposeBackend(FarmDirectory(directory / ".farm", directory / "runs"))


def search_file(directory: Path, model: str, **changes: Any) -> None:
    path = FarmDirectory(directory / ".farm", directory / "runs").search_file("small")
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump({**SETTINGS, "model": model, **changes}))


def shown(directory: Path) -> set[str]:
    services = json.loads((directory / ".farm" / "paths.json").read_text())["services"]
    assert services["trainer"] == services["evaluator"] == services["coordinator"]
    assert all(mount["read_only"] and mount["source"] == mount["target"] for mount in services["trainer"]["volumes"])
    return {mount["source"] for mount in services["trainer"]["volumes"]}


def test_containers_see_what_search_files_name_and_where_it_links_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, blobs, data = tmp_path / "model", tmp_path / "blobs", tmp_path / "instructions.jsonl"
    for directory in (model, blobs):
        directory.mkdir()
    (blobs / "abc").write_text("{}")
    (model / "config.json").symlink_to(blobs / "abc")
    data.write_text("{}\n")
    search_file(tmp_path, str(model), training={"data": str(data)})
    backend(tmp_path, monkeypatch)._write_paths(FarmSpec(backend="containers", preparing=("small",)))
    assert shown(tmp_path) == {str(model), str(blobs), str(data)}


def test_models_of_the_hub_and_data_that_are_built_in_need_nothing_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_file(tmp_path, "somebody/model", training={"data": "plain_facts"})
    backend(tmp_path, monkeypatch)._write_paths(FarmSpec(backend="containers", preparing=("small",)))
    assert shown(tmp_path) == set()


def test_a_home_directory_is_refused_as_containers_have_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_file(tmp_path, "~/model")
    with pytest.raises(UserError, match="write the whole path"):
        backend(tmp_path, monkeypatch)._write_paths(FarmSpec(backend="containers", preparing=("small",)))


@pytest.mark.parametrize(
    ("status", "code", "restarts", "ended"),
    [
        ("running", 0, 0, {}),
        ("exited", 0, 0, {"one": 0}),
        ("exited", 2, 0, {"one": 2}),
        ("exited", 137, 1, {}),  # the engine is about to start it again
        ("exited", 137, 5, {"one": 137}),
    ],
)
def test_a_search_has_ended_when_its_coordinator_isnt_going_to_be_started_again(
    status: str,
    code: int,
    restarts: int,
    ended: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = {"com.docker.compose.service": "coordinator", "nasfarm.search": "one"}
    container = Container("1", "c", labels, status, code, restarts, "")
    assert backend(tmp_path, monkeypatch, container).ended() == ended


@pytest.mark.parametrize(
    ("status", "code", "restarts", "failed"),
    [
        ("running", 0, 3, False),
        ("exited", 0, 0, False),
        ("exited", 2, 0, True),
        ("exited", 137, 1, False),  # the engine is about to start it again
        ("exited", 137, 5, True),
    ],
)
def test_a_container_that_failed_is_told_with_what_it_wrote_last(
    status: str, code: int, restarts: int, failed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = {"com.docker.compose.service": "evaluator", "nasfarm.supernet": "d" * 32}
    farm = backend(tmp_path, monkeypatch, Container("1", "e", labels, status, code, restarts, ""))
    monkeypatch.setattr(Recorded, "last_line", lambda _, container: f"{container.name} has no disk")
    (state,) = farm.states()
    assert (state.name, state.restarts, state.failed) == ("evaluator-dddddddd-1", restarts, failed)
    assert farm.last_line(state.name) == "e has no disk" and farm.last_line("other") == "its container has been removed"


@pytest.mark.parametrize(
    ("there", "why"),
    [((), "the farm went down meanwhile"), (("rabbitmq", "trainer"), "another fine-tuning is running")],
)
def test_a_fine_tuning_is_not_begun_for_a_farm_that_is_down_nor_beside_another(
    there: tuple[str, ...], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    containers = [Container(name, name, {"com.docker.compose.service": name}, "running", 0, 0, "") for name in there]
    with pytest.raises(UserError, match=f"small: {why}"):
        backend(tmp_path, monkeypatch, *containers).train(FarmSpec(backend="containers"), "small")


def test_a_fine_tuning_in_another_terminal_ends_when_the_farm_goes_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken_down(_: ContainerEngine, container: Container) -> int:
        monkeypatch.setattr(Recorded, "there", ())
        raise UserError(f"podman wait: no container {container.name}")

    broker, trainer = (
        Container(name, name, {"com.docker.compose.service": name}, "running", 0, 0, "")
        for name in ("rabbitmq", "trainer")
    )
    search_file(tmp_path, "somebody/model")
    farm = backend(tmp_path, monkeypatch, broker)
    monkeypatch.setattr(farm, "_start_service", lambda *_: monkeypatch.setattr(Recorded, "there", (broker, trainer)))
    monkeypatch.setattr(Recorded, "watch", taken_down)
    with pytest.raises(UserError, match="was stopped; `make deploy` resumes it from its last checkpoint"):
        farm.train(FarmSpec(backend="containers", preparing=("small",)), "small")


def test_a_farm_is_destroyed_without_waiting_for_what_its_evaluators_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = Container("1", "e", {"com.docker.compose.service": "evaluator"}, "running", 0, 0, "")
    farm = backend(tmp_path, monkeypatch, container)
    removed: list[tuple[list[Container], int]] = []
    monkeypatch.setattr(Recorded, "remove", lambda _, which, seconds: removed.append((list(which), seconds)))
    monkeypatch.setattr(Recorded, "remove_network", lambda *_: None)
    farm.destroy()
    assert removed == [([container], CONTAINER_STOP_SECONDS)]


def test_what_a_container_writes_is_shown_without_what_moves_the_cursor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "podman").write_text("#!/bin/sh\nprintf '\\033[2Jbad\\377\\n'\n")
    (tmp_path / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    container = Container("1", "evaluator", {}, "running", 0, 0, "")
    engine = ContainerEngine("podman", ("podman-compose",), rootless=True)
    engine.follow([container])
    assert capsys.readouterr().out == "evaluator | �[2Jbad�\n"
    assert engine.last_line(container) == "\x1b[2Jbad�"


def test_where_nothing_runs_containers_one_line_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="make farm"):
        ContainerEngine.find()


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x", "9" * 5000])
def test_a_port_of_the_monitoring_that_is_none_is_said_in_one_line(
    port: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFANA_PORT", port)
    with pytest.raises(UserError, match=r"^GRAFANA_PORT: must be a port, 1 to 65535$"):
        backend(tmp_path, monkeypatch).check(FarmSpec(backend="containers"))
