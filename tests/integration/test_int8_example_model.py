"""INT8 on the example model: as accurate as an interval can tell, and exactly as small as computed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from services.evaluator.evaluator import Evaluator
from services.reporting.statistics.intervals import wilson_interval
from services.reporting.statistics.paired_comparison import PairedTable
from shared.architecture import Architecture, Quantization
from shared.environment import Environment
from shared.messages import CheckpointRef, EvaluationRequest, EvaluationSpec, Measurement, TaskItems
from shared.supernet.source import EXAMPLE_MODEL, fetch_model
from tests.support.content import digest_of
from tests.support.data import ROOT

ITEMS = 240
DENSE = Architecture(layers=tuple(range(30)), mlp_widths=(1536,) * 30)
SUBNET = Architecture(layers=(*range(20), 23, 24, 27, 28, 29), mlp_widths=(1536,) * 20 + (1024,) * 5)

# Of one layer: weights of query and output, of key and value, of gate, up and down; their rows, each with a scale.
ATTENTION, NEURON = 2 * 576 * 576 + 2 * 192 * 576, 3 * 576
ATTENTION_ROWS, NEURON_ROWS, DOWN_ROWS = 2 * 576 + 2 * 192, 2, 576
NORMS_BYTES, EMBEDDING_BYTES = 2 * 2 * 576, 2 * (49152 * 576 + 576)


@pytest.fixture(scope="module")
def example() -> Path:
    directory, _ = fetch_model(EXAMPLE_MODEL)
    return directory


def measured(directory: Path, architecture: Architecture, quantization: Quantization) -> Measurement:
    reference = CheckpointRef(location=str(directory), digest=digest_of(directory))
    spec = EvaluationSpec(tasks=(TaskItems(task="plain_facts", stop=ITEMS),), dtype="bfloat16")
    network = architecture.quantized(quantization)
    request = EvaluationRequest(search="int8", checkpoint=reference, architecture=network, spec=spec.computing(network))
    return Evaluator(Environment.read()).measure(request)


def bytes_in_bfloat16(architecture: Architecture) -> int:
    linear = sum(ATTENTION + NEURON * width for width in architecture.mlp_widths)
    return 2 * linear + architecture.depth * NORMS_BYTES + EMBEDDING_BYTES


def bytes_in_int8(architecture: Architecture) -> int:
    weights = sum(ATTENTION + NEURON * width for width in architecture.mlp_widths)
    rows = sum(ATTENTION_ROWS + NEURON_ROWS * width + DOWN_ROWS for width in architecture.mlp_widths)
    return weights + 4 * rows + architecture.depth * NORMS_BYTES + EMBEDDING_BYTES


@pytest.mark.parametrize("architecture", [DENSE, SUBNET], ids=["dense", "subnet"])
def test_int8_leaves_the_accuracy_within_its_interval_and_the_margins_close(
    example: Path, architecture: Architecture
) -> None:
    plain, quantized = (measured(example, architecture, how) for how in ("none", "int8"))
    before, after = plain.scores[0].metrics["acc"], quantized.scores[0].metrics["acc"]
    assert sum(before) > 0.4 * ITEMS, "the network knows too little for INT8 to do harm"
    assert PairedTable.of(before, after).p_value > 0.01
    low, high = wilson_interval(sum(before), ITEMS)
    assert low < sum(after) / ITEMS < high
    margins, quantized_margins = np.array(plain.scores[0].margins), np.array(quantized.scores[0].margins)
    assert 0.97 < np.corrcoef(margins, quantized_margins)[0, 1] < 1
    assert (plain.bytes, quantized.bytes) == (bytes_in_bfloat16(architecture), bytes_in_int8(architecture))
    assert plain.parameters == quantized.parameters == plain.bytes // 2


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's account of memory")
def test_quantising_takes_the_memory_of_the_int8_network_and_at_its_peak_no_more_than_a_layer_besides(
    example: Path,
) -> None:
    # glibc gives each tensor pages of its own, and back at once: what is counted is what is held.
    exact = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.support.int8_memory", str(example)],
        cwd=ROOT,
        env=os.environ | exact,
        check=True,
        capture_output=True,
        timeout=300,
    )
    found = json.loads(ran.stdout)
    added = bytes_in_int8(DENSE) - DENSE.depth * NORMS_BYTES - EMBEDDING_BYTES
    assert found["held"] == pytest.approx(added, rel=0.05)
    assert found["held"] <= found["peak"] < 1.05 * added + 2 * (ATTENTION + NEURON * 1536)
