"""The evaluator answers requests for speeds under vLLM, one network after another."""

import os
from pathlib import Path

import pytest
import torch

from services.evaluator.evaluator import Evaluator
from shared.architecture import Architecture
from shared.environment import Environment
from shared.messages import (
    CheckpointRef,
    EvaluationRequest,
    EvaluationSpec,
    Failure,
    Measurement,
    SpeedSpec,
    TaskItems,
    Workload,
)
from tests.support.checkpoints import write_checkpoint
from tests.support.content import digest_of

WORKLOAD = Workload(batch=2, prompt_tokens=30, generated_tokens=6)
SPEC = EvaluationSpec(
    tasks=(TaskItems(task="plain_facts", split="test", stop=6),),
    dtype="bfloat16",
    speed=SpeedSpec(engine="vllm", workload=WORKLOAD, repeats=3),
)


@pytest.fixture
def evaluator(tmp_path: Path) -> Evaluator:
    return Evaluator(Environment(data=None, cache=tmp_path / "cache", threads=1))


@pytest.fixture
def reference(tmp_path: Path) -> CheckpointRef:
    directory = tmp_path / "model"
    write_checkpoint(directory, "qwen3-window", hidden_size=128, head_dim=32)
    return CheckpointRef(location=str(directory), digest=digest_of(directory))


def test_three_networks_in_a_row_are_measured_and_leave_nothing_behind(
    evaluator: Evaluator, reference: CheckpointRef
) -> None:
    environment, threads = dict(os.environ), torch.get_num_threads()
    for architecture in (
        Architecture(layers=(0, 2, 3), mlp_widths=(24, 6, 12)),
        Architecture(layers=(0, 1, 2, 3, 4), mlp_widths=(24, 24, 24, 24, 24)),
        Architecture(layers=(4,), mlp_widths=(5,)),
    ):
        request = EvaluationRequest(search="test", checkpoint=reference, architecture=architecture, spec=SPEC)
        measurement = evaluator.evaluate(request).outcome

        assert isinstance(measurement, Measurement), measurement
        assert len(measurement.scores[0].items) == 6
        speed = measurement.speed
        assert speed is not None and (speed.engine, speed.workload, speed.dtype) == ("vllm", WORKLOAD, "bfloat16")
        assert speed.engine_version.startswith("0.32.0")
        assert len(speed.prefill_tokens_per_second) == len(speed.decode_tokens_per_second) == 3
        assert min(*speed.prefill_tokens_per_second, *speed.decode_tokens_per_second) > 0
    assert (dict(os.environ), torch.get_num_threads()) == (environment, threads)


@pytest.mark.parametrize(
    ("architecture", "workload", "reason"),
    [
        (Architecture(layers=(0,), mlp_widths=(8,), quantization="int8"), WORKLOAD, "not quantised"),
        (Architecture(layers=(0,), mlp_widths=(8,)), Workload(prompt_tokens=5000), "the model has 2048 positions"),
    ],
)
def test_what_vllm_can_not_do_is_a_bad_request_with_a_reason_in_one_line(
    architecture: Architecture, workload: Workload, reason: str, evaluator: Evaluator, reference: CheckpointRef
) -> None:
    spec = EvaluationSpec(dtype="float32", speed=SpeedSpec(engine="vllm", workload=workload)).computing(architecture)
    request = EvaluationRequest(search="test", checkpoint=reference, architecture=architecture, spec=spec)
    failure = evaluator.evaluate(request).outcome

    assert isinstance(failure, Failure) and failure.kind == "bad_request"
    assert reason in failure.reason and "\n" not in failure.reason
