"""What fails in a study costs as little as can be of it, and is said in one line."""

import gc
import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from services.application.study import pruned_networks, single_networks, supernet_making
from services.application.study.failed_networks import read_failed
from services.application.study.reading import read_study
from services.application.study.run_study import run_study
from services.application.study.study_directory import StudyDirectory
from services.application.supernet_store import SupernetStore
from services.coordinator.study.networks import of_kind
from services.evaluator import evaluator
from services.evaluator.placement import to_device
from services.pruner.make_pruned import make_pruned
from services.pruner.recipe import PruningRecord
from services.reporting.study.assemble import assemble
from services.trainer.fine_tuning import DivergedError
from services.trainer.recipe import SingleRecord
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events, Noted
from shared.settings import parse_study
from shared.supernet.checkpoint import Checkpoint
from tests.support.tiny_study import study_values


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the super-network of a study; the study itself is begun by each test."""
    return tmp_path_factory.mktemp("made")


def run(made: Path, runs: Path, **changes: Any) -> list[str]:
    """Run a small study to its end; the notes."""
    values = study_values(made)
    supernet = values["supernets"][0]
    small = {"supernets": [supernet], "heuristics": [], "baselines": [{"baseline": "magnitude"}]}
    tuning = {"full": ["magnitude"], "lora": [], "alone": False}
    given = {**values, **small, "search": {"evaluations": 4, "population": 2}, "fine_tuning": tuning, **changes}
    notes: list[str] = []
    events = Events(lambda event: notes.append(event.text) if isinstance(event, Noted) else None)
    environment = Environment(data=None, cache=made / "cache", threads=1)
    settings = parse_study(given, "study")
    run_study(settings, StudyDirectory(runs), SupernetStore(made / "supernets"), None, environment, events)
    return notes


def failing(error: Exception) -> Callable[..., None]:
    def make(*_: object, **__: object) -> None:
        raise error

    return make


def test_a_study_goes_on_without_a_network_whose_fine_tuning_diverges_and_tries_it_again(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = StudyDirectory(tmp_path / "tiny")
    reason = "fine_tuning.learning_rate: the loss is not finite at step 3; lower it"
    with monkeypatch.context() as patched:
        patched.setattr(single_networks, "make_shown", failing(DivergedError(reason)))
        run(made, directory.path)
    line = f"magnitude, 1.1 times smaller, full: {reason}"
    assert read_failed(directory) == (line,)
    with read_study(directory) as study:
        assert [each.fine_tuning for each in of_kind(study.networks, "baseline")] == ["none"]
        assert line in assemble(study).failures
    assert line in directory.report.read_text()
    run(made, directory.path)
    assert read_failed(directory) == ()
    with read_study(directory) as study:
        assert [each.fine_tuning for each in of_kind(study.networks, "baseline")] == ["none", "full"]
        assert assemble(study).failures == ()


def test_a_super_network_whose_fine_tuning_diverges_is_named_by_the_study_file_s_keys(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lower = "training.learning_rate: the loss is not finite at step 3; lower it"
    monkeypatch.setattr(supernet_making, "fine_tune", failing(DivergedError(lower)))
    with pytest.raises(UserError, match=r"^supernets\.ours\.training\.learning_rate: the loss"):
        run(made, tmp_path / "tiny", supernets=study_values(made)["supernets"][1:])


@pytest.mark.parametrize(
    ("module", "name", "words"),
    [
        (pruned_networks, "make_pruned", "baselines: magnitude, 1.1 times smaller: memory ran out (too little); "),
        (
            single_networks,
            "make_shown",
            "fine_tuning: magnitude, 1.1 times smaller, full: memory ran out (too little); ",
        ),
    ],
)
def test_memory_that_runs_out_is_told_of_in_one_line(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, words: str
) -> None:
    monkeypatch.setattr(module, name, failing(torch.OutOfMemoryError("too little\nof a long story")))
    with pytest.raises(UserError) as told:
        run(made, tmp_path / "tiny")
    assert str(told.value).startswith(words) and "\n" not in str(told.value)


def test_another_error_than_of_memory_keeps_its_traceback(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruned_networks, "make_pruned", failing(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        run(made, tmp_path / "tiny")


def test_nothing_is_on_the_device_while_baselines_are_made(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed, there = list[weakref.ref[Tensor]](), list[bool]()

    def place(checkpoint: Checkpoint, *to: Any) -> Checkpoint:
        moved = to_device(checkpoint, *to)
        copied = replace(moved, weights={name: each.clone() for name, each in moved.weights.items()})
        placed.extend(map(weakref.ref, copied.weights.values()))
        return copied

    def prune(*given: Any, **more: Any) -> PruningRecord:
        gc.collect()
        there.extend(one() is not None for one in placed)
        return make_pruned(*given, **more)

    monkeypatch.setattr(evaluator, "to_device", place)
    monkeypatch.setattr(pruned_networks, "make_pruned", prune)
    # Without INT8: what its library says when it is imported holds, while pytest keeps it, the network that needed it.
    run(made, tmp_path / "tiny", remeasure_int8=False)
    assert there and not any(there)


def test_what_a_former_study_file_asked_for_is_told_of_and_what_was_left_unfinished_of_whole_networks_removed(
    made: Path, tmp_path: Path
) -> None:
    directory = StudyDirectory(tmp_path / "tiny")
    assert not any("no longer asks for" in note for note in run(made, directory.path))
    former = {place.name for place in directory.networks.iterdir()}
    for name in (*former, "begun"):
        directory.workspace(name).mkdir(parents=True)
    notes = run(made, directory.path, sizes=[1.2])
    assert {place.name for place in directory.unfinished.iterdir()} == {"begun"}
    (left,) = (note for note in notes if "no longer asks for" in note)
    paths = {str(directory.networks / name) for name in former} | {str(directory.workspace("begun"))}
    assert left.startswith("3 checkpoints are") and set(left.split("rm -r ")[1].split()) == paths
    shutil.rmtree(directory.unfinished)
    assert not any("no longer asks for" in note for note in run(made, directory.path, sizes=[1.1, 1.2]))


def test_single_networks_may_be_fine_tuned_at_a_rate_of_their_own(made: Path, tmp_path: Path) -> None:
    tuning = {"full": ["magnitude"], "lora": [], "alone": False}
    directory, rates = StudyDirectory(tmp_path / "tiny"), []
    supernets = set[str]()
    for rate in (None, 1e-3):
        run(made, directory.path, fine_tuning={**tuning, "learning_rate": rate})
        with read_study(directory) as study:
            (tuned,) = (each for each in of_kind(study.networks, "baseline") if each.fine_tuning == "full")
            supernets.add(study.searches[0].plan.supernet.digest)
        recipe = SingleRecord.read(Path(tuned.checkpoint.location)).recipe
        assert recipe.tuning is not None
        rates.append(recipe.tuning.training.learning_rate)
    assert rates == [3e-3, 1e-3]
    assert len(supernets) == 1
