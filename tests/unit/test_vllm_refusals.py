"""What vLLM can't run is refused before anything is loaded, by name."""

import json
from pathlib import Path

import pytest
from transformers import PretrainedConfig

from services.evaluator.engines import vllm_engine
from services.evaluator.engines.vllm_engine import VllmEngine
from shared.architecture import Architecture, dense, derive
from shared.errors import UserError
from shared.network.shape import layers_to_json
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.saving import save_network
from tests.support.checkpoints import WINDOW, write_checkpoint
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
    refused(
        engine,
        tmp_path,
        "layers differ in more than MLP width",
    )


def test_networks_in_int8(engine: VllmEngine, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    refused(engine, tmp_path, "not quantised", "int8")


@pytest.mark.parametrize("family", ["llama-biases", "mistral-window", "qwen2-window", "qwen3-window"])
def test_other_networks_are_taken(engine: VllmEngine, family: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, family)
    checkpoint = Checkpoint.open(tmp_path)
    narrow = Architecture(layers=(0, 1, 3), mlp_widths=(24, 7, 12))
    with engine.run(checkpoint, narrow, "float32") as running:
        options = running._options([[1, 2, 3]], 4)
    config = checkpoint.config
    windows = {"mistral-window": [WINDOW] * 3, "qwen2-window": [None, None, WINDOW]}.get(family, [None] * 3)
    if family == "qwen3-window":
        windows = [None, WINDOW, WINDOW]
    assert options["model_loader_extra_config"] == narrow.model_dump(mode="json")
    assert options["kv_cache_memory_bytes"] == 2 * 256 * 3 * 2 * config.num_key_value_heads * head_dim(config) * 4
    assert options["hf_overrides"] == {
        "architectures": ["NasfarmForCausalLM"],
        "family": checkpoint.network.family,
        "layers": layers_to_json(derive(checkpoint.network, narrow).layers),
        "num_hidden_layers": 3,
        "layer_types": ["full_attention" if window is None else "sliding_attention" for window in windows],
        "sliding_window": next((window for window in windows if window is not None), None),
        "head_dim": head_dim(config),
    }


def head_dim(config: PretrainedConfig) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def test_windows_of_different_sizes_and_configs_of_our_own(engine: VllmEngine, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "windows", "mistral-window")
    config = tmp_path / "windows" / "config.json"
    values = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**values, "per_layer_config": {"1": {"sliding_window": 3}}}), encoding="utf-8")
    refused(engine, tmp_path / "windows", "layers differ in more than MLP width")
    write_checkpoint(tmp_path / "base", "llama")
    base = Checkpoint.open(tmp_path / "base")
    cut = Architecture(layers=(0, 1), mlp_widths=(24, 7))
    save_network(base.cut(cut), base, cut.layers, tmp_path / "cut")
    refused(engine, tmp_path / "cut", "a config of nasfarm's own")
