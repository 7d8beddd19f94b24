"""A fine-tuning that takes more memory than there is, though it was thought to fit, ends in one line."""

from pathlib import Path
from typing import Any

import pytest
import torch

from services.application import supernet_training
from services.application.supernet_store import SupernetStore
from services.application.supernet_training import fine_tune_here
from shared.errors import UserError
from shared.events import Events
from tests.unit.test_memory_taken import AnotherProcess, prepared

REMEDIES = {
    "full": "set training.memory to lean, or lower training.tokens_per_step",
    "lean": "set training.memory to leanest, or lower training.tokens_per_step",
    "leanest": "lower training.tokens_per_step",
}


@pytest.fixture
def full_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore about it")

    monkeypatch.setattr(supernet_training, "make_supernet", out_of_memory)


@pytest.mark.usefixtures("full_gpu")
@pytest.mark.parametrize("memory", REMEDIES)
def test_the_settings_that_take_less_are_named(tmp_path: Path, memory: str) -> None:
    with pytest.raises(UserError) as refusal:
        fine_tune_here(prepared(tmp_path, memory=memory), Events())
    said = str(refusal.value)
    assert said.startswith(
        f"training.memory {memory}: memory ran out (CUDA out of memory. Tried to allocate 2.00 GiB.)"
    )
    assert said.endswith(f"with more memory, or {REMEDIES[memory]}") and "\n" not in said


@pytest.mark.usefixtures("full_gpu")
def test_so_they_are_by_another_process_than_the_first(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^training\.memory lean: memory ran out .* set training\.memory to leanest"):
        supernet_training._take_part(prepared(tmp_path), SupernetStore(tmp_path / "supernets"), AnotherProcess())
