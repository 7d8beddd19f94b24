"""The state of a fine-tuning on disk: whole, or refused, or not there."""

from pathlib import Path

import pytest
import torch

from services.trainer.training_state import TrainingState, load_state, save_state
from shared.errors import UserError
from tests.support.disk import nearly_full_disk


def state(step: int = 3) -> TrainingState:
    weights = {"a": torch.arange(50_000.0)}
    return TrainingState("plan", step, (2, 1), None, {"full": 1.5}, weights, {"state": {}})


def test_a_training_state_survives_being_saved(tmp_path: Path) -> None:
    save_state(tmp_path / "new" / "training.pt", state())
    restored = load_state(tmp_path / "new" / "training.pt", "plan")
    assert restored is not None
    assert (restored.step, restored.drop_order, restored.losses) == (3, (2, 1), {"full": 1.5})
    assert torch.equal(restored.weights["a"], state().weights["a"])
    assert load_state(tmp_path / "none.pt", "plan") is None


def test_a_state_of_other_settings_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path / "training.pt", state())
    with pytest.raises(UserError, match=r"training\.pt: belongs to a fine-tuning with other settings, model or data"):
        load_state(tmp_path / "training.pt", "other plan")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 torn"])
def test_a_damaged_state_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "training.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"training\.pt: not a readable training state; remove it") as refusal:
        load_state(tmp_path / "training.pt", "plan")
    assert "\n" not in str(refusal.value)


def test_a_truncated_state_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path / "training.pt", state())
    whole = (tmp_path / "training.pt").read_bytes()
    (tmp_path / "training.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a readable training state"):
        load_state(tmp_path / "training.pt", "plan")


def test_a_full_disk_leaves_the_former_state_and_nothing_else(tmp_path: Path) -> None:
    save_state(tmp_path / "training.pt", state(step=3))
    with nearly_full_disk(room=10_000), pytest.raises(UserError, match=r"training\.pt: can't be written") as refusal:
        save_state(tmp_path / "training.pt", state(step=4))
    assert "\n" not in str(refusal.value)
    restored = load_state(tmp_path / "training.pt", "plan")
    assert restored is not None and restored.step == 3
    assert [path.name for path in tmp_path.iterdir()] == ["training.pt"]
