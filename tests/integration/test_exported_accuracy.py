"""An export is the network that was measured: lm-eval's own `hf` model, loaded from the exported directory, answers
every item as our scorer does with the sub-network cut out of the checkpoint."""

from pathlib import Path

import pytest
from lm_eval.models.huggingface import HFLM

from shared.architecture import Architecture
from shared.messages import TaskItems
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.saving import save_network
from tests.support.agreement import TOLERANCE, comparisons
from tests.support.checkpoints import WIDTH, write_checkpoint

TASKS = (TaskItems(task="plain_facts", stop=120),)
FEWER = Architecture(layers=(0, 2, 3), mlp_widths=(WIDTH,) * 3)

pytestmark = pytest.mark.usefixtures("without_warnings")


@pytest.mark.parametrize("family", ["llama-grouped-tied", "qwen2", "qwen3", "smollm3", "gemma3"])
def test_lm_eval_finds_the_measured_accuracy_item_by_item_in_float32(family: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "supernet", family)
    checkpoint = Checkpoint.open(tmp_path / "supernet")
    save_network(checkpoint.cut(FEWER), checkpoint, FEWER.layers, tmp_path / "export")
    reference = HFLM(pretrained=str(tmp_path / "export"), dtype="float32", device="cpu", batch_size=8)
    compared = list(comparisons(checkpoint, FEWER, reference, TASKS, None, 3000))
    assert [comparison.scores.task for comparison in compared] == [asked.task for asked in TASKS]
    for comparison in compared:
        assert comparison.likelihood_difference() <= TOLERANCE
        assert comparison.metric_differences() == []
        assert comparison.scores.values == pytest.approx(comparison.theirs.values, rel=TOLERANCE)
