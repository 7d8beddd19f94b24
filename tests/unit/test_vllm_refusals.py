"""What vLLM can't run is refused before anything is loaded, by name."""

from pathlib import Path

import pytest

from services.evaluator.engines import vllm_engine
from services.evaluator.engines.vllm_engine import VllmEngine
from shared.architecture import dense
from shared.errors import UserError
from shared.supernet.checkpoint import Checkpoint
from tests.support.checkpoints import write_checkpoint
from tests.support.uneven import write_uneven


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> VllmEngine:
    monkeypatch.setattr(vllm_engine, "_installed_version", lambda: "0.32.0")
    return VllmEngine()


def refused(engine: VllmEngine, directory: Path, complaint: str, quantization: str = "none") -> None:
    checkpoint = Checkpoint.open(directory)
    chosen = dense(checkpoint.network).quantized(quantization)
    with (
        pytest.raises(UserError, match=f"engine vllm: .*{complaint}.*; use engine torch"),
        engine.run(checkpoint, chosen, "float32"),
    ):
        pass


@pytest.mark.parametrize("family", ["smollm3", "gemma3"])
def test_families_that_the_plugin_does_not_compute(engine: VllmEngine, family: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, family)
    refused(engine, tmp_path, f"can't run networks of the family {family}")


@pytest.mark.parametrize("name", ["llm-pruner", "slicegpt", "no-attention", "no-mlp"])
def test_networks_whose_layers_differ_in_more_than_width(engine: VllmEngine, name: str, tmp_path: Path) -> None:
    write_uneven(tmp_path, name)
    refused(engine, tmp_path, "layers differ in more than MLP width and window")


def test_networks_in_int8(engine: VllmEngine, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    refused(engine, tmp_path, "not quantised", "int8")


@pytest.mark.parametrize("family", ["llama-biases", "mistral-window", "qwen2-window", "qwen3-window"])
def test_other_networks_are_taken(engine: VllmEngine, family: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, family)
    checkpoint = Checkpoint.open(tmp_path)
    with engine.run(checkpoint, dense(checkpoint.network), "float32") as running:
        assert running.attention.head_dim == checkpoint.network.layers[0].attention.head_dim
