"""Networks measured again in the quantisation in which they are written."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from services.application.export import remeasurement
from services.application.export.choice import ChosenNetwork
from services.application.export.remeasurement import (
    Remeasurement,
    measured_again,
    remeasured_tasks,
    requantization,
)
from services.application.export.searched_run import SearchedRun
from services.application.export.source import of_run
from services.evaluator.evaluator import Evaluator
from services.evaluator.scoring import score
from services.exporter.gguf.numbers import q8_0_network
from services.exporter.names import FormatName, GgufType
from services.exporter.network import ExportedNetwork
from services.reporting.report_data import TaskRow
from shared.architecture import Architecture, Quantization, dense
from shared.checkpoint_files import FileDigests, content_digest
from shared.environment import Environment
from shared.events import Events
from shared.messages import CheckpointRef, EvaluationRequest, EvaluationSpec, ItemScores
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.saving import save_network
from tests.support.checkpoints import write_checkpoint

RUNS = Path(__file__).parents[1] / "fixtures" / "format-4"
CUT = Architecture(layers=(0, 1, 3), mlp_widths=(64, 32, 64))


@pytest.mark.parametrize(
    ("quantization", "written", "gguf_type", "name"),
    [
        ("int8", "vllm", None, "INT8 (W8A8)"),
        ("int8", "gguf", "q8_0", "Q8_0"),
        ("none", "gguf", "q8_0", "Q8_0"),
        ("none", "vllm", None, None),
        ("none", "hf", None, None),
        ("int8", "hf", None, None),
        ("none", "gguf", "bf16", None),
    ],
)
def test_only_what_no_search_measures_is_measured_again(
    quantization: Quantization, written: FormatName, gguf_type: GgufType | None, name: str | None
) -> None:
    found = requantization(CUT.quantized(quantization), written, gguf_type)
    assert (None if found is None else found.name) == name


@pytest.fixture
def run(tmp_path: Path) -> SearchedRun:
    shutil.copytree(RUNS, tmp_path / "work", symlinks=True)
    return SearchedRun.read(tmp_path / "work" / "runs" / "served")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_q8_0_has_the_accuracy_of_the_checkpoint_that_the_file_is_read_as(
    run: SearchedRun, tmp_path: Path, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, rounded = tmp_path / "base", tmp_path / "rounded"
    write_checkpoint(base, "llama-grouped-tied", intermediate_size=64).to(dtype).save_pretrained(base)
    network, environment = ExportedNetwork(Checkpoint.open(base), CUT.quantized("int8")), Environment.read()
    save_network(q8_0_network(network), network.checkpoint, CUT.layers, rounded)
    reference = CheckpointRef(location=str(rounded), digest=content_digest(FileDigests(tmp_path).content(rounded)))
    spec = EvaluationSpec(dtype="float32", tasks=tuple(task.part("report") for task in run.plan.settings.tasks))
    whole = dense(Checkpoint.open(rounded).network)
    request = EvaluationRequest(search="made-up", checkpoint=reference, architecture=whole, spec=spec)
    (expected,) = Evaluator(environment).measure(request).scores

    scored: list[ItemScores] = []

    def noted(*arguments: Any) -> ItemScores:
        scored.append(score(*arguments))
        return scored[-1]

    monkeypatch.setattr(remeasurement, "score", noted)
    form = requantization(network.architecture, "gguf", "q8_0")
    assert form is not None
    tasks = remeasured_tasks(form, True, network, run.plan.settings, environment, Events())
    assert tasks is not None
    found = measured_again(form, tasks, network, of_run(run, ChosenNetwork("cut", network.architecture)), Events())
    assert found.by_task["plain_facts"].accuracy == sum(expected.metrics["acc"]) / 20 == expected.values["acc"]
    assert scored[0].metrics["acc"] == expected.metrics["acc"]
    assert scored[0].margins == pytest.approx(expected.margins, abs=1e-5)
    assert found.items == 20 and found.otherwise is None and found.before == {}


def test_a_task_of_a_file_is_told_without_the_way_there() -> None:
    row = TaskRow(accuracy=0.5, interval=(0.4, 0.6), versus_dense=None, versus_base=None)
    found = Remeasurement("Q8_0", {"/home/somebody/quiz.yaml": row}, {}, 20, 3)
    assert "50.0" in found.in_words() and "on quiz (" in found.in_words() and "somebody" not in found.in_words()
    assert found.in_words().endswith("3 of 20 items are answered otherwise")
