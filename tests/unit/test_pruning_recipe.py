"""`recipe.json`: what it says of a checkpoint that a baseline made."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.pruner.calibration import Calibration
from services.pruner.make_pruned import make_pruned, plan_pruning
from services.pruner.recipe import PruningRecord
from services.pruner.target import ParameterTarget
from shared.checkpoint_files import FileDigests
from shared.errors import UserError
from shared.manifest import RECIPE
from shared.network.sizes import parameters
from shared.settings.baselines import BaselineOptions, RandomOptions, ShortGptOptions
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.device import preferred_dtype
from shared.supernet.saving import copy_companions
from tests.support.checkpoints import write_checkpoint

TEXT = Calibration(((1, 2, 3, 4), (5, 6, 7)))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "base", "llama-grouped-tied")
    return tmp_path / "base"


def made(base: Path, name: str, options: BaselineOptions, share: float = 0.9, **arguments: Any) -> PruningRecord:
    target = ParameterTarget(at_most=int(share * parameters(Checkpoint.open(base).network)))
    plan = plan_pruning(base, f"digest of {base.name}", options, target, **arguments)
    return make_pruned(plan, base.parent / name, FileDigests(base.parent / "cache"))


def test_a_recipe_says_of_what_and_how_a_checkpoint_was_made(base: Path) -> None:
    record = made(base, "made", ShortGptOptions(), calibration=TEXT, seed=5)
    written = json.loads((base.parent / "made" / RECIPE).read_text(encoding="utf-8"))
    assert written["base"] == str(base) and written["kept"] == list(record.kept) and written["tokens"] == 7
    assert written["dtype"] == preferred_dtype()
    assert written["plan"] == record.recipe.digest and set(written["versions"]) == {"torch", "transformers", "nasfarm"}
    assert written["recipe"] == {
        "base": "digest of base",
        "options": {"baseline": "shortgpt"},
        "target": {"measure": "parameters", "at_most": record.recipe.target.at_most},
        "calibration": TEXT.digest,
        "seed": None,  # nothing is drawn
    }


def test_text_and_seed_count_only_where_they_decide_about_something(base: Path) -> None:
    drawn = made(base, "drawn", RandomOptions(), calibration=TEXT, seed=5)
    assert drawn.recipe.calibration is None and drawn.tokens is None and drawn.recipe.seed == 5
    assert drawn.plan == made(base, "again", RandomOptions(), seed=5).plan
    assert drawn.plan != made(base, "other", RandomOptions(), seed=6).plan


def test_a_network_that_is_made_of_one_with_a_recipe_has_its_own(base: Path, tmp_path: Path) -> None:
    first = made(base, "first", RandomOptions())
    second = made(tmp_path / "first", "second", RandomOptions())
    assert PruningRecord.read(tmp_path / "first") == first and PruningRecord.read(tmp_path / "second") == second
    assert second.recipe.base == "digest of first" and second.parameters < first.parameters
    (tmp_path / "companions").mkdir()
    copy_companions(tmp_path / "first", tmp_path / "companions")
    assert not (tmp_path / "companions" / RECIPE).exists() and (tmp_path / "companions" / "tokenizer.json").exists()


def test_a_recipe_of_an_earlier_release_says_no_kind_and_is_one_of_a_baseline(base: Path) -> None:
    record = made(base, "made", RandomOptions())
    file = base.parent / "made" / RECIPE
    written = json.loads(file.read_text(encoding="utf-8"))
    assert written.pop("kind") == "pruned"
    file.write_text(json.dumps(written), encoding="utf-8")
    assert PruningRecord.read(base.parent / "made") == record


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, r"recipe\.json: can't be read; name a checkpoint that was made of another one"),
        ("{", r"recipe\.json: .*; copy it again, or make the checkpoint again"),
        ('{"version": 1}', r"recipe\.json: base: missing; add it; copy it again"),
    ],
)
def test_a_recipe_that_is_missing_or_damaged_is_refused_in_one_line(
    content: str | None, complaint: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / RECIPE).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=complaint) as refusal:
        PruningRecord.read(tmp_path)
    assert "\n" not in str(refusal.value)
