"""`vllm serve DIRECTORY`: an exported directory is all that vLLM needs, and it says what our own engine says."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, LlamaConfig

from services.evaluator.engines.torch_engine import TorchEngine
from services.exporter.huggingface import HuggingFace
from services.exporter.network import ExportedNetwork
from services.exporter.vllm import Vllm
from shared.architecture import Architecture, dense
from shared.network.config import config_of
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from shared.supernet.packing import pack
from shared.supernet.saving import save_weights
from shared.supernet.tree import Tree
from shared.supernet.w8a8 import W8A8Linear, as_w8a8
from tests.support.checkpoints import SIZES, random_sequences, write_checkpoint
from tests.support.plain_network import random_weights
from tests.support.uneven import UNEVEN

SUBNET = Architecture(layers=(0, 1, 3, 4), mlp_widths=(24, 8, 13, 16))
KERNEL_SIZES: dict[str, Any] = {"hidden_size": 128, "head_dim": 32}
"""vLLM's attention on a CPU knows heads of 32 and more."""
PROMPTS = random_sequences(3, 40, 17)
TOKENS = 20
LOADING = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of compressed-tensors, where it is imported
SERVING = """
import json, os, sys
from vllm import LLM, SamplingParams
directories, dtype, options, prompts, tokens = json.load(sys.stdin)
for name, directory in directories.items():
    if (child := os.fork()):
        os.waitpid(child, 0)
        continue
    try:
        engine = LLM(directory, dtype=dtype, skip_tokenizer_init=True, generation_config="vllm", max_model_len=128,
                     max_num_seqs=4, enforce_eager=True, kv_cache_memory_bytes=2**26, gpu_memory_utilization=0.05,
                     **options)
        sampling = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False)
        found = engine.generate([{"prompt_token_ids": prompt} for prompt in prompts], sampling, use_tqdm=False)
        answer = [list(line.outputs[0].token_ids) for line in found]
    except Exception as error:
        answer = repr(error)
    print("SERVED", json.dumps({name: answer}), flush=True)
    os._exit(0)
"""
"""vLLM takes a minute to be imported, so that is done once; a process holds one engine in its life."""

Answers = dict[str, list[list[int]] | str]


def served(directories: dict[str, Path], dtype: str = "float32", plugins: str = "nasfarm", **options: Any) -> Answers:
    """The likeliest tokens of each directory's network, or what went wrong."""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_PLUGINS": plugins,
    }
    paths = {name: str(directory) for name, directory in directories.items()}
    done = subprocess.run(
        [sys.executable, "-P", "-c", SERVING],
        input=json.dumps([paths, dtype, options, PROMPTS, TOKENS]),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    lines = [line.removeprefix("SERVED ") for line in done.stdout.splitlines() if line.startswith("SERVED ")]
    answers: Answers = {name: answer for line in lines for name, answer in json.loads(line).items()}
    assert list(answers) == list(paths), done.stderr[-4000:] + done.stdout[-2000:]
    return answers


def ours(checkpoint: Checkpoint, architecture: Architecture) -> list[list[int]]:
    with TorchEngine(torch.device("cpu")).run(checkpoint, architecture, "float32") as running:
        lines = running.generate(PROMPTS, TOKENS)
    assert len({token for line in lines for token in line}) > 5  # a network that repeats one token tells nothing
    return lines


SERVED_FAMILIES = [
    "llama-biases",
    "llama3-rope",
    "llama-yarn-rope",
    "mistral-window",
    "qwen2-window",
    "qwen3-window",
    "smollm3-window",
    "gemma3",
    "gemma3-biases",
]


WITH_ATTENTION = [name for name, shape in UNEVEN.items() if any(layer.attention for layer in shape.layers)]
"""vLLM is made for networks that have some."""


def write_cut(directory: Path, family: str) -> None:
    """A family's network whose layers differ, exported."""
    write_checkpoint(directory / "base", family, **KERNEL_SIZES)
    export(ExportedNetwork(Checkpoint.open(directory / "base"), SUBNET), directory / "cut")


def write_enlarged(directory: Path, name: str) -> None:
    """A network whose layers differ in more than width, with heads that vLLM knows on a CPU, exported."""
    layers = tuple(
        replace(layer, attention=layer.attention and replace(layer.attention, head_dim=32))
        for layer in UNEVEN[name].layers
    )
    shape = replace(UNEVEN[name], layers=layers)
    base = directory / "base"
    base.mkdir(parents=True)
    config = config_of(shape, LlamaConfig(**SIZES).to_dict(), range(shape.depth))
    (base / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_weights(random_weights(shape), base)
    checkpoint = Checkpoint.open(base)
    export(ExportedNetwork(checkpoint, dense(checkpoint.network)), directory / "cut")


def export(network: ExportedNetwork, directory: Path) -> None:
    """In the format `hf`."""
    directory.mkdir()
    HuggingFace().write(network, directory, lambda _: None)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every directory that the plugin is to serve."""
    root = tmp_path_factory.mktemp("exported")
    for family in SERVED_FAMILIES:
        write_cut(root / family, family)
    for name in WITH_ATTENTION:
        write_enlarged(root / name, name)
    return {name: root / name / "cut" for name in [*SERVED_FAMILIES, *WITH_ATTENTION]}


@pytest.fixture(scope="module")
def answers(exported: dict[str, Path]) -> Answers:
    return served(exported)


@pytest.mark.parametrize("name", [*SERVED_FAMILIES, *WITH_ATTENTION])
def test_a_directory_whose_layers_differ_is_served_by_the_plugin(
    name: str, exported: dict[str, Path], answers: Answers
) -> None:
    assert json.loads((exported[name] / "config.json").read_text(encoding="utf-8"))["model_type"] == "nasfarm"
    checkpoint = Checkpoint.open(exported[name])
    assert answers[name] == ours(checkpoint, dense(checkpoint.network))


DECILM = ["llama-biases", "llama3-rope", "mistral", "qwen2"]


def write_exported(directory: Path, family: str, architecture: Architecture) -> ExportedNetwork:
    """A family's network in the format `vllm`."""
    write_checkpoint(directory / "base", family, **KERNEL_SIZES)
    network = ExportedNetwork(Checkpoint.open(directory / "base"), architecture)
    (directory / "cut").mkdir()
    Vllm().write(network, directory / "cut", lambda _: None)
    return network


def test_the_format_vllm_is_served_without_the_plugin(tmp_path: Path) -> None:
    networks = {family: write_exported(tmp_path / family, family, SUBNET) for family in DECILM}
    answers = served({family: tmp_path / family / "cut" for family in DECILM}, plugins="", trust_remote_code=True)
    for family, network in networks.items():
        assert answers[family] == ours(network.checkpoint, SUBNET), family


def test_int8_is_served_without_the_plugin_as_w8a8(tmp_path: Path) -> None:
    wide = Architecture(layers=(0, 1, 3, 4), mlp_widths=(64, 32, 48, 64), quantization="int8")
    write_checkpoint(tmp_path / "base", "llama", intermediate_size=64, **KERNEL_SIZES)
    network = ExportedNetwork(Checkpoint.open(tmp_path / "base"), wide)
    (tmp_path / "cut").mkdir()
    Vllm().write(network, tmp_path / "cut", lambda _: None)
    answers = served({"int8": tmp_path / "cut"}, dtype="bfloat16", plugins="", trust_remote_code=True)
    rounded = as_w8a8(network.checkpoint.cut(wide.quantized("none"))).map(lambda tensor: tensor.bfloat16())
    assert not isinstance(answers["int8"], str), answers
    for prompt, line in zip(PROMPTS, answers["int8"], strict=True):
        assert len(line) == TOKENS
        states = rounded.hidden(pack([Tree.plain(prompt)]))
        # Untrained networks are sensitive to rounding: the first token is among the likeliest of what we measure.
        assert line[0] in rounded.logits(states[-1]).topk(5).indices.tolist()


@LOADING
def test_compressed_tensors_own_decompression_gives_the_weights_that_are_measured(tmp_path: Path) -> None:
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig

    network = write_exported(tmp_path, "llama", SUBNET.quantized("int8"))
    written = load_file(tmp_path / "cut" / "model.safetensors")
    config = json.loads((tmp_path / "cut" / "config.json").read_text(encoding="utf-8"))["quantization_config"]
    (scheme,) = QuantizationConfig.model_validate(config).config_groups.values()
    compressor = BaseCompressor.get_value_from_registry("int-quantized")
    name = "model.layers.1.mlp.up_proj.weight"
    parts = {"weight": written[name], "weight_scale": written[f"{name}_scale"]}
    found = compressor.decompress(parts, scheme)["weight"]
    measured = written[name].float() * written[f"{name}_scale"].float()
    torch.testing.assert_close(found.float(), measured)
    assert (measured - dict(network.weights())[name]).abs().max() < written[f"{name}_scale"].max()


@LOADING
@torch.inference_mode()
def test_transformers_computes_w8a8_too_with_another_scale_of_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    even = Architecture(layers=(0, 1, 3), mlp_widths=(16, 16, 16))
    network = write_exported(tmp_path, "llama", even.quantized("int8"))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "cut", dtype=torch.float32)
    plain, served_by_vllm = network.checkpoint.cut(even), as_w8a8(network.checkpoint.cut(even))

    def logits(decoder: Decoder, prompt: list[int]) -> Tensor:
        return decoder.logits(decoder.hidden(pack([Tree.plain(prompt)])))

    expected = [(logits(plain, prompt), logits(served_by_vllm, prompt)) for prompt in PROMPTS]

    def halves(linear: W8A8Linear, inputs: Tensor) -> Tensor:
        scales = inputs.abs().amax(-1, keepdim=True) / 127.5  # compressed-tensors'; vLLM has 127
        rounded = (inputs / scales).round().clamp(-128, 127) * scales
        return F.linear(rounded, linear.weight.float() * linear.scales, linear.bias)

    monkeypatch.setattr(W8A8Linear, "__call__", halves)
    for prompt, (exact, vllm) in zip(PROMPTS, expected, strict=True):
        theirs = model(torch.tensor([prompt])).logits[0]
        difference, rounding = (
            (one - theirs).square().mean().sqrt() for one in (logits(served_by_vllm, prompt), exact)
        )
        assert difference < rounding / 3
        assert (vllm - theirs).square().mean().sqrt() < 2 * rounding
