"""The format `vllm`: what is written is the network, and what vLLM's layout can't hold is refused by name."""

import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from services.exporter.network import ExportedNetwork
from services.exporter.vllm import Vllm
from services.exporter.vllm.decilm import obstacle
from shared.architecture import Architecture, dense
from shared.errors import UserError
from shared.manifest import read_config
from shared.network.tensors import tensors
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.packing import pack
from shared.supernet.tree import Tree
from shared.supernet.w8a8 import as_w8a8
from tests.support.checkpoints import WIDTH, random_sequences, write_checkpoint
from tests.support.uneven import UNEVEN, write_uneven

UNEVEN_CUT = Architecture(layers=(0, 2, 3), mlp_widths=(6, WIDTH, 11))
EVEN_CUT = Architecture(layers=(0, 2, 3), mlp_widths=(11, 11, 11))
HELD = ["llama", "llama-grouped-tied", "llama-biases", "llama-head-dim", "llama3-rope", "mistral", "qwen2"]
REFUSED = {
    "mistral-window": "attention windows",
    "qwen2-window": "attention windows",
    "qwen3": "norms of queries and keys",
    "smollm3": "attention without rotary embedding",
    "gemma3": "norms of queries and keys",
}


def exported(directory: Path, family: str, architecture: Architecture) -> tuple[ExportedNetwork, Path]:
    write_checkpoint(directory / "base", family)
    network = ExportedNetwork(Checkpoint.open(directory / "base"), architecture)
    (directory / "made").mkdir()
    Vllm().write(network, directory / "made", lambda _: None)
    return network, directory / "made"


@pytest.mark.parametrize("family", HELD)
def test_a_network_whose_layers_differ_has_block_configs_and_its_own_weights(family: str, tmp_path: Path) -> None:
    network, made = exported(tmp_path, family, UNEVEN_CUT)
    config, written = read_config(made), load_file(made / "model.safetensors")
    expected = dict(network.weights())
    assert set(written) == set(expected)
    assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())
    assert (config["model_type"], config["architectures"]) == ("nemotron-nas", ["DeciLMForCausalLM"])
    assert [block["ffn"] for block in config["block_configs"]] == [
        {"no_op": False, "intermediate_size": width} for width in (6, WIDTH, 11)
    ]
    attention = network.shape.layers[0].attention
    assert attention is not None
    group = attention.heads // attention.kv_heads
    assert {block["attention"]["n_heads_in_group"] for block in config["block_configs"]} == {group}
    assert (config["qkv_bias"], config["attention_bias"]) == (attention.qkv_bias, attention.output_bias)
    assert config["rope_parameters"] == network.checkpoint.config.rope_parameters
    assert config["rms_norm_eps"] == network.checkpoint.config.rms_norm_eps
    assert (made / "tokenizer.json").read_bytes() == (tmp_path / "base" / "tokenizer.json").read_bytes()


def test_the_config_file_beside_the_weights_stands_by_itself(tmp_path: Path) -> None:
    _, made = exported(tmp_path, "llama", UNEVEN_CUT)
    file = made / "configuration_decilm.py"
    found = importlib.util.spec_from_file_location("configuration_decilm", file)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    assert "nasfarm" not in file.read_text(encoding="utf-8")

    config = module.DeciLMConfig.from_pretrained(made)
    assert [block.ffn.intermediate_size for block in config.block_configs] == [6, WIDTH, 11]
    assert config.block_configs[1].attention.n_heads_in_group == 1 and not config.block_configs[1].attention.no_op
    assert not hasattr(config.block_configs[0].ffn, "ffn_mult")
    config.save_pretrained(tmp_path / "again")
    assert read_config(tmp_path / "again")["block_configs"] == read_config(made)["block_configs"]


@pytest.mark.parametrize("family", [*HELD, *REFUSED])
def test_a_network_of_layers_that_are_alike_is_a_plain_checkpoint_of_its_family(family: str, tmp_path: Path) -> None:
    network, made = exported(tmp_path, family, EVEN_CUT)
    opened = Checkpoint.open(made)
    assert opened.network == network.shape and not (made / "configuration_decilm.py").exists()
    assert all(torch.equal(opened.weights[name], tensor) for name, tensor in network.weights())


@pytest.mark.parametrize("family", REFUSED)
def test_what_the_layout_can_not_hold_is_refused_by_name(family: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "base", family)
    network = ExportedNetwork(Checkpoint.open(tmp_path / "base"), UNEVEN_CUT)
    with pytest.raises(UserError, match=rf"format vllm: .*can't hold {REFUSED[family]}.*--to hf.*nasfarm"):
        Vllm().require_possible(network)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("llm-pruner", "layers that differ in their numbers of query heads"),
        ("slicegpt", "SliceGPT's shortcuts (layer 0)"),
        ("no-attention", "layers that differ in their numbers of query heads"),
        ("attention-free-first-layer", "a first layer without attention"),
        ("no-mlp", "layers that differ in their numbers of query heads"),
        ("all-of-it", "SliceGPT's shortcuts (layer 0)"),
    ],
)
def test_of_uneven_networks_the_reason_is_named(name: str, reason: str) -> None:
    assert obstacle(UNEVEN[name]) == reason


def test_a_layer_without_a_block_is_a_no_op(tmp_path: Path) -> None:
    write_uneven(tmp_path / "base", "attention-free-first-layer")
    with pytest.raises(UserError, match="a first layer without attention"):
        Vllm().require_possible(ExportedNetwork(base := Checkpoint.open(tmp_path / "base"), dense(base.network)))
    write_checkpoint(tmp_path / "llama", "llama")
    network = ExportedNetwork(Checkpoint.open(tmp_path / "llama"), Architecture(layers=(0, 1), mlp_widths=(0, 5)))
    (tmp_path / "made").mkdir()
    Vllm().write(network, tmp_path / "made", lambda _: None)
    blocks = read_config(tmp_path / "made")["block_configs"]
    assert [block["ffn"]["no_op"] for block in blocks] == [True, False]
    assert not any("layers.0.mlp" in name for name in load_file(tmp_path / "made" / "model.safetensors"))


@pytest.mark.parametrize("architecture", [UNEVEN_CUT, EVEN_CUT])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int8_is_written_as_w8a8_with_the_numbers_of_the_network_that_is_measured(
    dtype: torch.dtype, architecture: Architecture, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path / "base", "llama-biases").to(dtype).save_pretrained(tmp_path / "base")
    network = ExportedNetwork(Checkpoint.open(tmp_path / "base"), architecture.quantized("int8"))
    (tmp_path / "made").mkdir()
    counted: list[int] = []
    Vllm().write(network, tmp_path / "made", counted.append)
    written, plain = load_file(tmp_path / "made" / "model.safetensors"), dict(network.weights())
    linear = {spec.name for spec in tensors(network.shape) if spec.kind == "linear" and not spec.bias}
    assert set(written) == set(plain) | {f"{name}_scale" for name in linear}
    size = (tmp_path / "made" / "model.safetensors").stat().st_size
    assert sum(counted) == Vllm().bytes(network) == size > sum(tensor.nbytes for tensor in written.values())
    measured = dict(as_w8a8(network.checkpoint.cut(architecture)).weights())
    for name, weight in plain.items():
        assert torch.equal(written[name], measured[name])
        if name in linear:
            scales = written[f"{name}_scale"]
            assert written[name].dtype == torch.int8 and scales.dtype == dtype and scales.shape == (len(weight), 1)
            exact = weight.float().abs().amax(1, keepdim=True) / 127
            torch.testing.assert_close(scales, exact.to(dtype), atol=0, rtol=0)
            error = (written[name].float() * scales.float() - weight.float()).abs()
            assert (error <= scales.float() * (0.5 if dtype == torch.float32 else 1.0) * 1.001).all()
            assert written[name].abs().amax(1).min() >= 126
        else:
            assert torch.equal(written[name], weight)
    config = read_config(tmp_path / "made")["quantization_config"]
    assert (config["quant_method"], config["format"], config["ignore"]) == (
        "compressed-tensors",
        "int-quantized",
        ["lm_head"],
    )
    (group,) = config["config_groups"].values()
    assert (group["weights"]["strategy"], group["weights"]["dynamic"]) == ("channel", False)
    assert (group["input_activations"]["strategy"], group["input_activations"]["dynamic"]) == ("token", True)


@torch.inference_mode()
def test_a_network_in_w8a8_computes_with_rounded_weights_and_rounded_inputs(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama-biases")
    network = Checkpoint.open(tmp_path).cut(UNEVEN_CUT)
    (layer,) = as_w8a8(network).layers[:1]
    plain = network.layers[0]
    assert layer.mlp is not None and plain.mlp is not None
    inputs = torch.randn(7, 32, generator=torch.Generator().manual_seed(0))
    inputs[3] = 0
    steps = inputs.abs().amax(1, keepdim=True) / 127
    rounded = torch.where(steps == 0, inputs, (inputs / steps).round() * steps)
    weight = plain.mlp.up.weight
    scales = weight.abs().amax(1, keepdim=True) / 127
    expected = rounded @ ((weight / scales).round() * scales).T + plain.mlp.up.bias
    torch.testing.assert_close(layer.mlp.up(inputs), expected, atol=1e-5, rtol=1e-5)
    assert (layer.mlp.up(inputs) - plain.mlp.up(inputs)).abs().max() > 1e-4


@torch.inference_mode()
def test_a_network_in_w8a8_says_much_the_same_in_any_dtype(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    network, packed = Checkpoint.open(tmp_path).cut(UNEVEN_CUT), pack([Tree.plain(random_sequences(30)[0])])
    exact = network.logits(network.hidden(packed))
    for dtype in (torch.float32, torch.bfloat16):
        rounded = as_w8a8(network).map(lambda tensor, dtype=dtype: tensor.to(dtype))  # type: ignore[misc]
        assert rounded.layers[0].projections[0].weight.dtype == torch.int8
        error = (rounded.logits(rounded.hidden(packed)).float() - exact).square().mean().sqrt()
        assert 0 < error < 0.15 * exact.std()
