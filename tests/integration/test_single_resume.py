"""A single network's fine-tuning that is killed is resumed as if nothing had happened."""

import json
from pathlib import Path

import pytest

from tests.support.forked import killed_after
from tests.support.tiny_single import METHODS, single_plan, tune_and_tell, tuned, write_source

STEPS = 16


def steps_done(file: Path) -> list[int]:
    return [json.loads(line)["step"] for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("method", METHODS)
def test_killed_and_resumed_it_ends_with_bitwise_the_same_weights(tmp_path: Path, method: str) -> None:
    source = write_source(tmp_path / "base")
    undisturbed = tuned(single_plan(source, method, steps=STEPS), tmp_path / "undisturbed")
    saving = {"steps": STEPS, "checkpoint_every_seconds": 1e-6}
    killed_after(6, tune_and_tell, source, tmp_path / "killed", method, saving)
    assert not (tmp_path / "killed").exists()
    first_kill = len(steps_done(tmp_path / "killed.unfinished" / "training.jsonl"))
    assert 6 <= first_kill < STEPS
    resumed = tuned(single_plan(source, method, **saving), tmp_path / "killed")

    files = [tmp_path / name / "model.safetensors" for name in ("undisturbed", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert (resumed.plan, resumed.losses) == (undisturbed.plan, undisturbed.losses)
    done = steps_done(tmp_path / "killed" / "training.jsonl")
    assert set(done) == set(range(STEPS))
    assert done[first_kill] >= 5, "it started over instead of resuming"
    assert not (tmp_path / "killed.unfinished").exists()


def test_killed_while_it_is_written_it_leaves_nothing_behind(tmp_path: Path) -> None:
    plan = single_plan(write_source(tmp_path / "base"))
    (tmp_path / "made.unfinished" / "written" / ".checkpoint.abc").mkdir(parents=True)
    (tmp_path / "made.unfinished" / "written" / "checkpoint").mkdir()
    tuned(plan, tmp_path / "made")
    assert {path.name for path in tmp_path.iterdir()} == {"base", "made", "rows.jsonl"}
