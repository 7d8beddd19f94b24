import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from services.evaluator.cost_tables import SWEEPS, cost_tables, fitted
from services.evaluator.engines import PassSeconds, make_engine
from services.evaluator.progress_callback import ProgressCallback, ignore_progress
from shared.architecture import Architecture
from shared.environment import Environment
from shared.errors import UserError
from shared.messages import CostSpec, Dtype, Workload
from shared.messages import Engine as EngineName
from shared.supernet.checkpoint import Checkpoint
from tests.support.checkpoints import LAYERS, WIDTH, write_checkpoint

WIDTHS = (WIDTH, 12, 6)
SPEC = CostSpec(engine="torch", workload=Workload(prompt_tokens=5, generated_tokens=2), mlp_widths=WIDTHS)
WHOLE = Architecture(layers=tuple(range(LAYERS)), mlp_widths=(WIDTH,) * LAYERS)
MIXED = Architecture(layers=(0, 2, 4), mlp_widths=(6, WIDTH, 6))


class Clockwork:
    """An engine whose passes take exactly what an additive model says, but for a sweep that is disturbed; decoding
    takes half of prefill's time."""

    name: EngineName = "torch"
    device = "clockwork"

    def __init__(self, version: str = "1", sizes: int = 2) -> None:
        self.version, self.sizes = version, sizes
        self.runs: list[Architecture] = []

    @contextmanager
    def run(self, checkpoint: Checkpoint, architecture: Architecture, dtype: Dtype) -> Iterator["Ticking"]:
        self.runs.append(architecture)
        disturbed = (len(self.runs) - 1) // (self.sizes * len(WIDTHS)) % SWEEPS == 1
        yield Ticking(seconds(architecture) * (2 if disturbed else 1))


class Ticking:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def generate(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
        raise AssertionError("costs are timed, nothing is generated")

    def time(self, workload: Workload, repeats: int, progressed: ProgressCallback = ignore_progress) -> PassSeconds:
        return PassSeconds((self.seconds,) * repeats, (self.seconds / 2,) * repeats)


def seconds(architecture: Architecture) -> float:
    """Twice as long in INT8."""
    layers = sum(0.001 + 0.003 * has + 0.0002 * width for _, width, has in architecture.layer_choices)
    return (0.03 + layers) * (2 if architecture.quantization == "int8" else 1)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    write_checkpoint(tmp_path / "model", "llama")
    return Checkpoint.open(tmp_path / "model")


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(data=None, cache=tmp_path / "cache", threads=1)


def test_the_table_foretells_networks_that_were_not_run(checkpoint: Checkpoint, environment: Environment) -> None:
    spec = SPEC.model_copy(update={"quantizations": ("none", "int8")})
    for table in cost_tables(Clockwork(), checkpoint, WHOLE, "float32", spec, environment):
        network = MIXED.quantized(table.quantization)
        assert table.prefill.seconds(network) == pytest.approx(seconds(network))
        assert table.decode.seconds(network) == pytest.approx(seconds(network) / 2)
        assert table.prefill.attention == pytest.approx(0.004 if table.quantization == "none" else 0.008)


def test_noisy_times_are_explained_as_well_as_they_can_be() -> None:
    times = {
        (depth, width, True): [(0.03 + depth * (0.004 + 0.0002 * width)) * noise]
        for (depth, width), noise in zip([(10, 20), (5, 20), (10, 10), (5, 10)], [1.01, 0.99, 1.01, 0.99], strict=True)
    }
    costs = fitted(times)
    for (depth, width, _), (measured,) in times.items():
        network = Architecture(layers=tuple(range(depth)), mlp_widths=(width,) * depth)
        assert costs.seconds(network) == pytest.approx(measured, rel=0.03)


def test_attention_costs_what_networks_without_are_faster_by(checkpoint: Checkpoint, environment: Environment) -> None:
    spec = SPEC.model_copy(update={"attention": ("keep", "skip")})
    engine = Clockwork(sizes=3)
    (table,) = cost_tables(engine, checkpoint, WHOLE, "float32", spec, environment)
    assert table.prefill.attention == pytest.approx(0.003)
    for skipped in ((), MIXED.layers[:1], MIXED.layers):
        network = Architecture(**{**MIXED.model_dump(), "without_attention": skipped})
        assert table.prefill.seconds(network) == pytest.approx(seconds(network))
    # Every network that is run has some attention.
    assert {len(one.without_attention) for one in engine.runs} == {0, WHOLE.depth - 1}
    (before,) = cost_tables(Clockwork(), checkpoint, WHOLE, "float32", SPEC, environment)
    assert before.prefill.attention == pytest.approx(0.004)


def test_a_single_width_has_a_cost_too() -> None:
    costs = fitted({(4, 8, True): [0.5], (2, 8, True): [0.3]})
    assert costs.attention == 0
    assert costs.seconds(Architecture(layers=(0, 1, 2), mlp_widths=(8, 8, 8))) == pytest.approx(0.4)


def test_a_table_is_measured_once_for_all_searches(checkpoint: Checkpoint, environment: Environment) -> None:
    engine = Clockwork()
    first = cost_tables(engine, checkpoint, WHOLE, "float32", SPEC, environment)
    measured = len(engine.runs)
    assert measured >= 2 * len(WIDTHS)
    assert cost_tables(engine, checkpoint, WHOLE, "float32", SPEC, environment) == first
    assert len(engine.runs) == measured


def test_weights_dont_matter_to_a_kept_table(tmp_path: Path, environment: Environment) -> None:
    engine = Clockwork()
    for seed in (0, 1):
        write_checkpoint(tmp_path / str(seed), "llama", seed)
        cost_tables(engine, Checkpoint.open(tmp_path / str(seed)), WHOLE, "float32", SPEC, environment)
    assert len(list(environment.cache.rglob("*.json"))) == 1


def test_whatever_changes_the_speed_has_a_table_of_its_own(checkpoint: Checkpoint, environment: Environment) -> None:
    longer = SPEC.model_copy(update={"workload": Workload(prompt_tokens=6, generated_tokens=2)})
    cost_tables(Clockwork(), checkpoint, WHOLE, "float32", SPEC, environment)
    cost_tables(Clockwork("2"), checkpoint, WHOLE, "float32", SPEC, environment)
    cost_tables(Clockwork(), checkpoint, WHOLE, "bfloat16", SPEC, environment)
    cost_tables(Clockwork(), checkpoint, WHOLE, "float32", longer, environment)
    cost_tables(Clockwork(), checkpoint, MIXED, "float32", SPEC, environment)
    cost_tables(Clockwork(), checkpoint, WHOLE, "float32", SPEC, environment.model_copy(update={"threads": 2}))
    assert len(list(environment.cache.rglob("*.json"))) == 6


def test_a_damaged_table_is_measured_anew(checkpoint: Checkpoint, environment: Environment) -> None:
    tables = cost_tables(Clockwork(), checkpoint, WHOLE, "float32", SPEC, environment)
    (file,) = environment.cache.rglob("*.json")
    file.write_text(json.dumps({"quantization": "none"}))
    assert cost_tables(Clockwork(), checkpoint, WHOLE, "float32", SPEC, environment) == tables
    assert len(file.read_text()) > 100


def test_costs_are_measured_where_nothing_can_be_kept(
    checkpoint: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    environment = Environment(data=None, cache=tmp_path / "file", threads=1)
    (tmp_path / "file").write_text("")
    assert cost_tables(Clockwork(), checkpoint, WHOLE, "float32", SPEC, environment)
    assert "not cached" in caplog.text


def test_the_cost_of_a_single_layer_is_refused(checkpoint: Checkpoint, environment: Environment) -> None:
    one = Architecture(layers=(0,), mlp_widths=(6,))
    with pytest.raises(UserError, match="one layer"):
        cost_tables(Clockwork(), checkpoint, one, "float32", SPEC, environment)


def test_a_real_engine_gives_costs_of_every_width(checkpoint: Checkpoint, environment: Environment) -> None:
    engine = make_engine("torch", torch.device("cpu"))
    (table,) = cost_tables(engine, checkpoint, WHOLE, "float32", SPEC, environment)
    assert set(table.prefill.mlp) == set(table.decode.mlp) == set(WIDTHS)
    assert table.prefill.seconds(MIXED) > 0 and table.decode.seconds(MIXED) > 0
    assert (table.engine, table.engine_version, table.device) == ("torch", torch.__version__, engine.device)
