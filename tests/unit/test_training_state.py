"""The state of a fine-tuning on disk: whole, or refused, or not there."""

import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from services.trainer import training_state
from services.trainer.training_state import StateInterval, TrainingState, check_state, load_state, save_state
from shared.errors import UserError
from tests.support.disk import nearly_full_disk


def state(step: int = 3) -> TrainingState:
    weights = {"a": torch.arange(50_000.0).view(500, 100), "b": torch.arange(7).bfloat16(), "c": torch.ones(2, 2)}
    parts = {"step": torch.tensor(2.0), "exp_avg": torch.rand(500, 100), "codes": torch.arange(6, dtype=torch.uint8)}
    optimizer = {"a": parts, "c": {"step": torch.tensor(1.0), "count": 4}}
    return TrainingState("plan", step, (2, 1), (0.1, 1 / 3), {"full": 1.5}, weights, optimizer)


def same(found: Any, expected: Any) -> bool:
    """Whether two nested values are the same to the last bit."""
    if isinstance(expected, torch.Tensor):
        return isinstance(found, torch.Tensor) and found.dtype == expected.dtype and torch.equal(found, expected)
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, tuple | list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return bool(found == expected)


def as_before(saved: TrainingState) -> dict[str, Any]:
    """What an earlier release wrote: with the optimiser's own state."""
    numbers = {name: number for number, name in enumerate(saved.weights)}
    parts = {numbers[name]: parts for name, parts in saved.optimizer.items()}
    return {**vars(saved), "optimizer": {"state": parts, "param_groups": [{"lr": 0.1, "params": [0, 1, 2]}]}}


def test_a_training_state_survives_being_saved(tmp_path: Path) -> None:
    saved = state()
    save_state(tmp_path / "new" / "training", saved)
    restored = load_state(tmp_path / "new" / "training", "plan")
    assert restored is not None and same(vars(restored), vars(saved))
    assert load_state(tmp_path / "training", "plan") is None


@pytest.mark.parametrize("orders", [(), (2, 1), ((2, 1), (1, 2)), ((), ())])
def test_a_state_holds_all_orders_in_which_layers_are_dropped(tmp_path: Path, orders: Any) -> None:
    save_state(tmp_path / "training", replace(state(), drop_order=orders))
    written = json.loads((tmp_path / "training" / "state.json").read_text())["drop_order"]
    assert written == [each if isinstance(each, int) else list(each) for each in orders]
    restored = load_state(tmp_path / "training", "plan")
    assert restored is not None and restored.drop_order == orders


def test_a_state_before_the_first_step_has_no_optimizer_s(tmp_path: Path) -> None:
    save_state(tmp_path / "training", replace(state(), optimizer={}, influence=None))
    restored = load_state(tmp_path / "training", "plan")
    assert restored is not None and restored.optimizer == {} and restored.influence is None


def test_large_tensors_are_written_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_state, "STAGED_BYTES", 1000)
    save_state(tmp_path / "training", state())
    assert len(list((tmp_path / "training").glob("*/*.safetensors"))) == 4
    restored = load_state(tmp_path / "training", "plan")
    assert restored is not None and same(restored.weights, state().weights)


def test_the_next_state_takes_the_place_of_the_former_one(tmp_path: Path) -> None:
    for step in range(3, 6):
        save_state(tmp_path / "training", state(step))
        assert len(list((tmp_path / "training").glob("tensors-*"))) == 1
    restored = load_state(tmp_path / "training", "plan")
    assert restored is not None and restored.step == 5


def test_a_state_of_which_the_writer_was_killed_leaves_the_former_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_state(tmp_path / "training", state(step=3))

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training_state, "write_atomically", killed)  # all tensors are there, what names them isn't
        with pytest.raises(KeyboardInterrupt):
            save_state(tmp_path / "training", state(step=4))
    restored = load_state(tmp_path / "training", "plan")
    assert restored is not None and restored.step == 3
    save_state(tmp_path / "training", state(step=4))
    restored = load_state(tmp_path / "training", "plan")
    assert restored is not None and restored.step == 4
    assert len(list((tmp_path / "training").glob("tensors-*"))) == 1


def test_a_state_of_an_earlier_release_is_resumed_and_then_replaced(tmp_path: Path) -> None:
    former = state()
    del former.optimizer["c"]["count"]  # it held tensors alone
    torch.save(as_before(former), tmp_path / "training.pt")
    check_state(tmp_path / "training", "plan")
    restored = load_state(tmp_path / "training", "plan")
    assert restored is not None and same(vars(restored), vars(former))
    save_state(tmp_path / "training", restored)
    assert [path.name for path in tmp_path.iterdir()] == ["training"]
    assert same(vars(load_state(tmp_path / "training", "plan")), vars(former))


@pytest.mark.parametrize("release", ["this", "former"])
def test_a_state_of_other_settings_is_refused(tmp_path: Path, release: str) -> None:
    if release == "this":
        save_state(tmp_path / "training", state())
    else:
        torch.save(as_before(state()), tmp_path / "training.pt")
    for refuses in (load_state, check_state):
        with pytest.raises(UserError, match=r": belongs to a fine-tuning with other settings, model or data"):
            refuses(tmp_path / "training", "other plan")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 torn"])
def test_a_damaged_state_of_an_earlier_release_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "training.pt").write_bytes(content)
    for refuses in (load_state, check_state):
        with pytest.raises(UserError, match=r"training\.pt: not a readable training state; remove it") as refusal:
            refuses(tmp_path / "training", "plan")
        assert "\n" not in str(refusal.value)


def test_a_truncated_state_of_an_earlier_release_is_refused(tmp_path: Path) -> None:
    torch.save(as_before(state()), tmp_path / "training.pt")
    whole = (tmp_path / "training.pt").read_bytes()
    (tmp_path / "training.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a readable training state"):
        load_state(tmp_path / "training", "plan")


def test_a_damaged_state_is_refused_in_one_line(tmp_path: Path) -> None:
    save_state(tmp_path / "whole", state())

    def refused() -> None:
        for refuses in (load_state, check_state):
            with pytest.raises(UserError, match=r"training: not a readable training state; remove it") as refusal:
                refuses(tmp_path / "training", "plan")
            assert "\n" not in str(refusal.value)
        shutil.rmtree(tmp_path / "training")

    shutil.copytree(tmp_path / "whole", tmp_path / "training")
    summary, (tensors,) = tmp_path / "training" / "state.json", (tmp_path / "training").glob("*/*.safetensors")
    whole = json.loads(summary.read_text(encoding="utf-8"))
    for content in (
        *(b"", b"{", b"[]", b"{}"),
        json.dumps({**whole, "tensors": "../elsewhere"}).encode(),
        json.dumps({**whole, "weights": ["unknown"]}).encode(),
        json.dumps({**whole, "optimizer": {"a": 3}}).encode(),
    ):
        shutil.copytree(tmp_path / "whole", tmp_path / "training", dirs_exist_ok=True)
        summary.write_bytes(content)
        with pytest.raises(UserError, match=r"training: not a readable training state; remove it") as refusal:
            load_state(tmp_path / "training", "plan")
        assert "\n" not in str(refusal.value)
    shutil.copytree(tmp_path / "whole", tmp_path / "training", dirs_exist_ok=True)
    os.truncate(tensors, tensors.stat().st_size - 1)
    refused()
    shutil.copytree(tmp_path / "whole", tmp_path / "training")
    tensors.unlink()
    refused()


def test_a_state_of_a_newer_release_is_refused_without_advice_to_remove_it(tmp_path: Path) -> None:
    save_state(tmp_path / "training", state())
    summary = tmp_path / "training" / "state.json"
    summary.write_text(json.dumps({**json.loads(summary.read_text("utf-8")), "version": 2}), encoding="utf-8")
    with pytest.raises(UserError, match=r"training: written by a newer release of nasfarm; use that$"):
        load_state(tmp_path / "training", "plan")


def test_nothing_that_could_run_code_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path / "training", state())

    def run(*_: Any, **__: Any) -> None:
        raise AssertionError("a pickle is read")

    monkeypatch.setattr(pickle, "load", run)
    monkeypatch.setattr(pickle, "loads", run)
    monkeypatch.setattr(torch, "load", run)
    assert load_state(tmp_path / "training", "plan") is not None
    kinds = {path.suffix for path in (tmp_path / "training").rglob("*") if path.is_file()}
    assert kinds == {".json", ".safetensors"}


def test_a_full_disk_leaves_the_former_state_and_nothing_else(tmp_path: Path) -> None:
    save_state(tmp_path / "training", state(step=3))
    with nearly_full_disk(room=10_000), pytest.raises(UserError, match=r"training: can't be written") as refusal:
        save_state(tmp_path / "training", state(step=4))
    assert "\n" not in str(refusal.value)
    restored = load_state(tmp_path / "training", "plan")
    assert restored is not None and restored.step == 3
    assert sorted(path.name for path in (tmp_path / "training").iterdir()) == ["state.json", "tensors-a"]


def test_without_room_for_the_state_none_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path / "training", state(step=3))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100_000))
    complaint = (
        r"training/tensors-b: can't be written \(.* takes 1 MB beside the former one, 0 MB are free\); free some"
    )
    with pytest.raises(UserError, match=complaint) as refusal:
        save_state(tmp_path / "training", state(step=4))
    assert "\n" not in str(refusal.value)
    restored = load_state(tmp_path / "training", "plan")
    assert restored is not None and restored.step == 3


@pytest.mark.parametrize(("seconds", "writing"), [(120.0, 81.0), (120.0, 0.5), (1e-6, 3.0)])
def test_training_waits_for_states_no_more_than_a_twentieth_of_the_time(seconds: float, writing: float) -> None:
    now = 0.0
    interval = StateInterval(seconds, clock=lambda: now)
    written = 0
    while written < 10:
        now += 1.0  # a step
        if interval.due:
            with interval.waiting():
                now += writing
            written += 1
    pause = max(seconds, 19 * writing)
    assert written * writing <= 0.05 * (now + pause)  # the last one's pause is still to come
    assert now <= 10 * (pause + writing + 1), "states are written too seldom"
