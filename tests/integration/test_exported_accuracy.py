"""An export is the network that was measured: lm-eval's own `hf` model, loaded from the exported directory, answers
every item as our scorer does with the sub-network cut out of the checkpoint."""

from pathlib import Path

import pytest
from lm_eval.models.huggingface import HFLM

from services.exporter.huggingface import HuggingFace
from services.exporter.network import ExportedNetwork
from shared.architecture import Architecture
from shared.messages import TaskItems
from shared.supernet.checkpoint import Checkpoint
from tests.support.agreement import TOLERANCE, comparisons
from tests.support.checkpoints import WIDTH, write_checkpoint

TASKS = (TaskItems(task="plain_facts", stop=120),)
FEWER = Architecture(layers=(0, 2, 3), mlp_widths=(WIDTH,) * 3)
NARROWER = Architecture(layers=(0, 1, 3, 4), mlp_widths=(WIDTH, 12, 6, 12))
FAMILIES = ("llama-grouped-tied", "qwen2", "qwen3", "smollm3", "gemma3")

pytestmark = pytest.mark.usefixtures("without_warnings")


@pytest.mark.parametrize(
    ("family", "architecture"), [(FAMILIES[0], FEWER), *((family, NARROWER) for family in FAMILIES)]
)
def test_lm_eval_finds_the_measured_accuracy_item_by_item_in_float32(
    family: str, architecture: Architecture, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path / "supernet", family)
    (tmp_path / "export").mkdir()
    checkpoint = Checkpoint.open(tmp_path / "supernet")
    HuggingFace().write(ExportedNetwork(checkpoint, architecture), tmp_path / "export", lambda _: None)
    reference = HFLM(pretrained=str(tmp_path / "export"), dtype="float32", device="cpu", batch_size=8)
    compared = list(comparisons(checkpoint, architecture, reference, TASKS, None, 3000))
    assert [comparison.scores.task for comparison in compared] == [asked.task for asked in TASKS]
    for comparison in compared:
        assert comparison.likelihood_difference() <= TOLERANCE
        assert comparison.metric_differences() == []
        assert comparison.scores.values == pytest.approx(comparison.theirs.values, rel=TOLERANCE)
