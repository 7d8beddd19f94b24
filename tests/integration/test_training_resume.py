"""A fine-tuning that is killed is resumed as if nothing had happened."""

import json
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

from shared.errors import UserError
from tests.support.content import content_of
from tests.support.forked import Forked, killed_after
from tests.support.tiny_training import refit_and_die, run, tiny_plan, train_and_die, train_and_tell

STEPS = 24


def killed(directory: Path, reports: int, **training: object) -> None:
    """Fine-tune in a process of its own, killed when it has reported this many steps."""
    killed_after(reports, train_and_tell, directory, "killed", training)


def steps_done(directory: Path) -> list[int]:
    (file,) = (directory / "killed").glob("*/training.jsonl")
    log = file.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["step"] for line in log]


def test_killed_twice_and_resumed_it_ends_with_bitwise_the_same_weights(tmp_path: Path) -> None:
    undisturbed = run(tmp_path, "undisturbed", steps=STEPS)
    saving = {"steps": STEPS, "checkpoint_every_seconds": 1e-6}
    killed(tmp_path, 6, **saving)
    assert not (tmp_path / "killed" / "supernet").exists()
    first_kill = len(steps_done(tmp_path))
    assert 6 <= first_kill < STEPS
    killed(tmp_path, 5, **saving)
    resumed = run(tmp_path, "killed", **saving)

    expected = load_file(tmp_path / "undisturbed" / "supernet" / "model.safetensors")
    found = load_file(tmp_path / "killed" / "supernet" / "model.safetensors")
    assert expected.keys() == found.keys()
    assert [name for name in expected if expected[name].numpy().tobytes() != found[name].numpy().tobytes()] == []
    assert resumed.losses == undisturbed.losses
    assert resumed.drop_order == undisturbed.drop_order

    done = steps_done(tmp_path)
    assert set(done) == set(range(STEPS))
    assert done[first_kill] >= 5, "it started over instead of resuming"
    assert not (tmp_path / "killed" / "unfinished").exists()


@pytest.mark.parametrize("memory", ["lean", "leanest"])
def test_so_it_does_by_the_lean_recipes(tmp_path: Path, memory: str) -> None:
    """Here the moment is always the same, as few steps are soon over."""
    levers = {"sampling": "stratified", "distillation": "all", "full_every": 3}
    training = {"steps": 6, "memory": memory, "warmup_steps": 0, **levers}
    run(tmp_path, "undisturbed", **training)
    saving = {**training, "checkpoint_every_seconds": 1e-6}
    assert Forked(train_and_die, tmp_path, "killed", saving, 4).wait() == -signal.SIGKILL
    run(tmp_path, "killed", **saving)
    files = [tmp_path / name / "supernet" / "model.safetensors" for name in ("killed", "undisturbed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert steps_done(tmp_path) == [0, 1, 2, 3, 3, 4, 5], "it didn't go on where it was killed"


def test_so_it_does_where_it_is_killed_while_projections_are_refitted(tmp_path: Path) -> None:
    training = {"steps": 4, "warmup_steps": 0, "refit": True}
    run(tmp_path, "undisturbed", **training)
    assert Forked(refit_and_die, tmp_path, "killed", training, 3).wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "supernet").exists()
    assert len(list((tmp_path / "killed").glob("unfinished/refitted/*.safetensors"))) == 3
    run(tmp_path, "killed", **training)
    assert steps_done(tmp_path) == [0, 1, 2, 3], "what was trained has been trained again"
    assert content_of(tmp_path / "killed" / "supernet") == content_of(tmp_path / "undisturbed" / "supernet")


def test_killed_before_the_first_save_it_begins_again(tmp_path: Path) -> None:
    tiny_plan(tmp_path)
    killed(tmp_path, 3, steps=STEPS)
    assert not (tmp_path / "killed" / "unfinished" / "training" / "state.json").exists()
    run(tmp_path, "killed", steps=STEPS)
    run(tmp_path, "undisturbed", steps=STEPS)
    files = [tmp_path / name / "supernet" / "model.safetensors" for name in ("killed", "undisturbed")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_killed_fine_tuning_is_not_mixed_with_one_of_other_settings(tmp_path: Path) -> None:
    tiny_plan(tmp_path)
    killed(tmp_path, 3, steps=STEPS, checkpoint_every_seconds=1e-6)
    with pytest.raises(UserError, match=r"training: belongs to a fine-tuning with other settings") as refusal:
        run(tmp_path, "killed", steps=STEPS, learning_rate=1e-3)
    assert "\n" not in str(refusal.value)
    assert (tmp_path / "killed" / "unfinished" / "training" / "state.json").exists()
