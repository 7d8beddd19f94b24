"""When a farm that was brought up is said to measure, and what is said of one that won't."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.farm import progress
from deploy.farm.progress import wait_until_measuring
from deploy.farm.state import FarmDirectory, FarmSpec
from deploy.farm.status import ServiceState
from shared.announcements import EvaluatorAnnouncement, SearchAnnouncement
from shared.errors import UserError

SUPERNET = "d" * 32
FARM = FarmSpec(backend="processes", evaluators=2).with_search("one", SUPERNET)
Look = Callable[[], None]


class Scene:
    """A farm and its broker, as a command sees them that polls: `looks` says what changes before each look."""

    def __init__(self, directory: FarmDirectory) -> None:
        self.directory = directory
        self.looks: list[Look] = []
        self.services: list[ServiceState] = []
        self.up = True
        self.codes: dict[str, int] = {}
        self.heard: dict[str, EvaluatorAnnouncement | SearchAnnouncement] = {}

    def states(self) -> list[ServiceState]:
        assert self.looks, "it is looked for more than there is to see"
        self.looks.pop(0)()
        return self.services

    def running(self) -> bool:
        return self.up

    def ended(self) -> dict[str, int]:
        return self.codes

    def last_line(self, name: str) -> str:
        return f"{name} has no disk"

    def announced(self, _: float) -> list[bytes]:
        return [each.model_dump_json().encode() for each in self.heard.values()]

    def close(self) -> None:
        pass

    def evaluator(self, name: str, **more: Any) -> Look:
        told = {"supernet": SUPERNET, "device": "cpu", "state": "idle", "since": 0, "sent_at": time.time(), **more}
        return lambda: self.heard.update({name: EvaluatorAnnouncement(name=name, **told)})

    def search(self, name: str, measured: int, **more: Any) -> Look:
        told = {"supernet": SUPERNET, "state": "searching", "planned": 9, "sent_at": time.time(), **more}
        return lambda: self.heard.update({name: SearchAnnouncement(name=name, measured=measured, **told)})

    def service(self, name: str, **more: Any) -> Look:
        return lambda: self.services.append(ServiceState(name, "any", **more))

    def watch(self, farm: FarmSpec = FARM, began_before: float = 1.0, begun: tuple[str, ...] = ("one",)) -> None:
        wait_until_measuring(self.directory, farm, self, begun, time.time() - began_before)  # type: ignore[arg-type]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    scene = Scene(FarmDirectory(tmp_path / ".farm", tmp_path / "runs"))
    monkeypatch.setattr(progress, "operator_address", lambda *_: "address")
    monkeypatch.setattr(progress, "RabbitBroker", lambda *_: scene)
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.0)
    return scene


def test_a_farm_measures_when_all_evaluators_are_there_and_the_search_has_got_on(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "REPORT_SECONDS", -1.0)
    looks = [scene.search("one", 5), scene.evaluator("a"), scene.search("one", 6), scene.evaluator("b")]
    scene.looks = [lambda: None, *looks]
    scene.watch()
    assert capsys.readouterr().out.splitlines() == [
        f"Waiting        {told}; Ctrl-C leaves the farm running"
        for told in (
            "0 of 2 evaluators are ready, one is starting",
            "0 of 2 evaluators are ready, one: 5 of 9 networks measured",
            "1 of 2 evaluators are ready, one: 5 of 9 networks measured",
            "1 of 2 evaluators are ready, one: 6 of 9 networks measured",
        )
    ] + ["Measuring      2 of 2 evaluators are ready, one: 6 of 9 networks measured"]


def test_networks_that_fail_are_told_while_nothing_is_measured(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "REPORT_SECONDS", -1.0)
    scene.looks = [scene.search("one", 0, failed={"out_of_memory": 3})]
    with pytest.raises(AssertionError):
        scene.watch()
    assert "0 of 9 networks measured, 3 failed" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["evaluator-dddddddd-2", "coordinator-one", "rabbitmq"])
def test_a_service_that_ended_for_good_is_said_with_its_reason_and_the_remedy(scene: Scene, name: str) -> None:
    scene.looks = [scene.search("one", 0), scene.service(name, failed=True)]
    with pytest.raises(UserError, match=f"{name} ended: {name} has no disk; fix that and run the same command again"):
        scene.watch()


def test_a_service_that_ends_again_and_again_is_not_waited_for_but_failures_of_yesterday_do_not_count(
    scene: Scene,
) -> None:
    def restarted(times: int) -> Look:
        return lambda: setattr(scene, "services", [ServiceState("evaluator-1", "waiting", restarts=times)])

    scene.looks = [restarted(7), restarted(8), restarted(9)]
    with pytest.raises(UserError, match="evaluator-1 ended 2 times: evaluator-1 has no disk"):
        scene.watch()
    assert scene.looks == []


def test_a_farm_that_goes_down_meanwhile_is_not_waited_for(scene: Scene) -> None:
    scene.looks = [scene.search("one", 0), lambda: setattr(scene, "up", False)]
    with pytest.raises(UserError, match="taken down meanwhile"):
        scene.watch()


def test_a_search_that_has_ended_well_is_not_waited_for(scene: Scene) -> None:
    scene.looks = [lambda: scene.codes.update(one=0)]
    scene.watch()


def test_a_search_of_which_nothing_is_heard_is_not_waited_for_for_ever(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SILENT_COORDINATOR_SECONDS", -1.0)
    scene.looks = [scene.evaluator("a")]
    with pytest.raises(
        UserError, match=r"coordinator-one doesn't announce itself .*has no disk.*`make down`, then the same"
    ):
        scene.watch()
    scene.looks = [scene.search("one", 0), scene.evaluator("b"), scene.search("one", 1)]
    scene.watch()


def test_without_evaluators_of_its_own_a_farm_is_up_when_its_searches_are(scene: Scene) -> None:
    scene.looks = [lambda: None, scene.search("one", 0)]
    scene.watch(FARM.model_copy(update={"evaluators": 0}))
    assert scene.looks == []


def test_a_search_under_way_gets_on_if_an_evaluator_that_has_measured_computes_for_it(scene: Scene) -> None:
    working = [scene.evaluator(name, state="computing", search="one", measured=3) for name in "ab"]
    scene.looks = [scene.search("one", 4), *working]
    scene.watch(begun=())
    scene.looks = [scene.search("one", 4), *working]
    with pytest.raises(AssertionError):  # of one that begins only now that says nothing
        scene.watch(begun=("one",))


def test_as_many_evaluators_are_waited_for_as_are_wanted_at_last(scene: Scene) -> None:
    scene.directory.make()
    scene.looks = [scene.search("one", 0), scene.search("one", 1), scene.evaluator("a")]
    scene.looks += [lambda: scene.directory.write(FARM.model_copy(update={"evaluators": 1}))]
    scene.watch()
    assert scene.looks == []


def test_what_was_said_before_does_not_count(scene: Scene) -> None:
    scene.looks = [scene.evaluator("a"), scene.evaluator("b"), scene.search("one", 1), scene.search("one", 2)]
    with pytest.raises(AssertionError):
        scene.watch(began_before=-5)


def test_each_super_network_has_its_evaluators(scene: Scene) -> None:
    farm = FARM.with_search("two", "e" * 32).model_copy(update={"evaluators": 1})
    scene.looks = [scene.search("one", 0), scene.search("two", 0), scene.search("one", 1), scene.search("two", 1)]
    scene.looks += [scene.evaluator("a"), scene.evaluator("b")]
    with pytest.raises(AssertionError):
        scene.watch(farm)
    scene.looks = [scene.evaluator("c", supernet="e" * 32), scene.search("one", 2), scene.search("two", 2)]
    scene.looks += [scene.search("one", 3), scene.search("two", 3)]
    scene.watch(farm)
