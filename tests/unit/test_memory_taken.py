"""What `training.memory: auto` took once is not decided again."""

from pathlib import Path
from typing import Any

import pytest

from services.application import supernet_training
from services.application.prepared_search import PreparedSearch, prepare_search
from services.application.run_directory import RunDirectory
from services.application.supernet_store import SupernetStore, workspace_of
from services.trainer.distributed.processes import SingleProcess
from services.trainer.make_supernet import TrainingPlan, make_supernet
from services.trainer.memory_choice import record_memory
from shared.environment import Environment
from shared.events import Events
from tests.support.checkpoints import write_checkpoint
from tests.support.tiny_training import tiny_settings


def prepared(directory: Path, **training: object) -> PreparedSearch:
    if not (directory / "base").exists():
        write_checkpoint(directory / "base", "llama-grouped-tied")
    environment = Environment(data=None, cache=directory / "cache", threads=1)
    run, store = RunDirectory(directory / "runs" / "tiny"), SupernetStore(directory / "supernets")
    return prepare_search(tiny_settings(directory, steps=2, **training), run, store, environment, Events())


def test_a_fine_tuning_that_began_elsewhere_goes_on_by_its_recipe(tmp_path: Path) -> None:
    usual, lean = prepared(tmp_path), prepared(tmp_path, memory="lean")
    assert usual.training is not None and usual.training.memory == "full" and usual.place != lean.place
    workspace_of(lean.place).mkdir(parents=True)
    record_memory(workspace_of(lean.place), "lean")
    resumed = prepared(tmp_path)
    assert resumed.training is not None and resumed.training.memory == "lean" and resumed.place == lean.place
    assert prepared(tmp_path, memory="full").place == usual.place


def test_a_super_network_that_another_machine_made_by_a_leaner_recipe_serves_auto_and_not_full(tmp_path: Path) -> None:
    lean = prepared(tmp_path, memory="leanest")
    assert lean.training is not None
    make_supernet(lean.training, workspace_of(lean.place), lean.place, lambda _: None)
    for choice, there in {"auto": True, "leanest": True, "lean": False, "full": False}.items():
        supernet = prepared(tmp_path, memory=choice).supernet
        assert (supernet is not None and supernet.directory == lean.place) == there, choice


class AnotherProcess(SingleProcess):
    """One of several, of which the first one has taken `lean`."""

    rank, size, first = 1, 2, False

    def agree(self, value: Any) -> Any:
        return "lean"


def test_what_the_first_of_several_processes_takes_all_take_whatever_their_machines_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, lean = prepared(tmp_path), prepared(tmp_path, memory="lean")
    made = []

    def note(plan: TrainingPlan, workspace: Path, place: Path, *_: object) -> None:
        made.append((plan.memory, workspace, place))

    monkeypatch.setattr(supernet_training, "make_supernet", note)
    supernet_training._take_part(usual, SupernetStore(tmp_path / "supernets"), AnotherProcess())
    assert made == [("lean", workspace_of(lean.place), lean.place)]
