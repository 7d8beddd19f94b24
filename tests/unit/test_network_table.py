"""A table of all networks of a small space."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.evaluator.preparation import prepare_task
from services.evaluator.scoring import score
from services.evaluator.tasks.loading import load_items
from shared.architecture import Architecture
from shared.environment import Environment
from shared.errors import UserError
from shared.messages import TaskItems
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.tokenizer import load_tokenizer
from tests.benchmarks.table import __main__ as tool
from tests.benchmarks.table.__main__ import PART, make_table
from tests.support.checkpoints import WIDTH, write_checkpoint
from tests.support.network_table import ELASTIC, NetworkTable, TableSpace
from tests.support.supernets import declare_supernet

SPACE = TableSpace.of((1536,) * 30, (30, 29), (25, 4, 7), 768)
LAYERS = 12
FACTS = TaskItems(task="plain_facts", stop=5)


def test_its_elastic_layers_are_the_last_that_no_network_lacks() -> None:
    assert SPACE.elastic == (19, 20, 21, 22, 23, 24, 26, 27, 28, 29) and SPACE.size == 2048
    with pytest.raises(UserError, match="needs 10 layers that every network has, there are 9"):
        TableSpace.of((8,) * ELASTIC, (10, 9), (3,), 4)


@given(st.integers(0, SPACE.size - 1))
def test_each_network_has_a_row_of_its_own(row: int) -> None:
    network = SPACE.architecture(row)
    assert SPACE.row(network) == row
    assert len(network.layers) == (30 if row < 1024 else 29)
    narrow = {layer for layer, width in zip(network.layers, network.mlp_widths, strict=True) if width == 768}
    assert narrow <= set(SPACE.elastic) and len(narrow) == (row % 1024).bit_count()


def test_rows_that_follow_each_other_differ_in_their_last_layers() -> None:
    part = [SPACE.architecture(row).mlp_widths[:23] for row in range(PART, 2 * PART)]
    assert len(set(part)) == 1


def test_a_network_of_another_space_has_no_row() -> None:
    whole, narrow = (Architecture(layers=tuple(range(30)), mlp_widths=(width,) * 30) for width in (1536, 768))
    assert SPACE.row(whole) == 0
    with pytest.raises(ValueError, match="no network of the table"):
        SPACE.row(narrow)


def test_what_is_read_is_what_was_written_and_the_file_is_small(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    soft = random.random((SPACE.size, 400))
    table = NetworkTable({"task": "arc_easy"}, SPACE, random.random((SPACE.size, 400)) < 0.6, soft)
    table.write(tmp_path / "tables" / "table.npz")
    read = NetworkTable.read(tmp_path / "tables" / "table.npz")
    assert (read.about["task"], read.space) == ("arc_easy", SPACE)
    assert np.array_equal(read.correct, table.correct) and np.abs(read.soft - soft).max() <= 0.5 / 255 + 1e-12
    assert (tmp_path / "tables" / "table.npz").stat().st_size < 1_000_000
    network = SPACE.architecture(1500)
    assert read.accuracy(network) == table.correct[1500].mean()
    assert read.soft_score(network, slice(0, 100)) == pytest.approx(soft[1500, :100].mean(), abs=0.01)
    with pytest.raises(UserError, match=r"no table of networks .*`make bench-table` makes one"):
        NetworkTable.read(tmp_path / "none.npz")


def test_networks_are_measured_as_one_by_one_and_what_is_measured_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supernet, environment = tmp_path / "supernet", Environment(data=None, cache=tmp_path / "cache", threads=1)
    write_checkpoint(supernet, "llama-grouped-tied", num_hidden_layers=LAYERS)
    declare_supernet(supernet)
    monkeypatch.setattr(tool, "PART", 3)
    table = make_table(supernet, FACTS, 5, environment)
    assert table.correct.shape == table.soft.shape == (5, 5)
    checkpoint, cpu = Checkpoint.open(supernet), torch.device("cpu")
    loaded = load_items(FACTS, None)
    task = prepare_task("facts", loaded, load_tokenizer(supernet), checkpoint.config, cpu, 4096)
    weights = {name: tensor.bfloat16() for name, tensor in checkpoint.weights.items()}
    assert table.space.mlp_widths == (WIDTH,) * LAYERS
    for row in (0, 4):
        alone = score(checkpoint.cut(table.space.architecture(row), weights), task)
        assert table.correct[row].tolist() == list(alone.metrics["acc"])
        assert table.soft[row] == pytest.approx(torch.tensor(alone.margins).sigmoid().numpy(), abs=1e-6)

    def never(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(tool, "score_together", never)
    again = make_table(supernet, FACTS, 5, environment)
    assert np.array_equal(again.soft, table.soft) and np.array_equal(again.correct, table.correct)
    assert again.about == table.about
