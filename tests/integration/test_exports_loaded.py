"""What `nasfarm export` writes, loaded as whoever gets it loads it: without nasfarm, or by llama.cpp."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader

from services.application.export import export_network
from services.exporter.card.facts import License
from shared.architecture import Architecture
from shared.manifest import read_config
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.packing import pack
from shared.supernet.tokenizer import load_tokenizer
from shared.supernet.tree import Tree
from tests.support.command import Run, environment
from tests.support.exports import record_of
from tests.support.llama_cpp import ask_llama_cpp

PROMPT = "The quick brown fox"
COMPARED = f"""
import json, sys, torch

model = AutoModelForCausalLM.from_pretrained(".", trust_remote_code=True, dtype=torch.float32)
with torch.inference_mode():
    logits = model(**tokenizer({PROMPT!r}, return_tensors="pt")).logits[0]
assert "services" not in sys.modules
print("LOGITS " + json.dumps(logits.tolist()))
"""
"""What follows the card's own commands."""


pytestmark = pytest.mark.usefixtures("finished_runs")


def strangers_logits(directory: Path, tmp_path: Path) -> torch.Tensor:
    """By what the card says to type, in the export's directory, from which nasfarm can't be imported."""
    (commands,) = re.findall(r"```python\n(.*?)```", (directory / "README.md").read_text(), re.DOTALL)
    variables = {key: value for key, value in environment().items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", commands + COMPARED],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=directory, check=False,
        env=variables | {"HF_HOME": str(tmp_path / "home")},
    )  # fmt: skip
    assert done.returncode == 0 and "Do you wish" not in done.stdout, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("LOGITS ")]
    return torch.tensor(json.loads(line.removeprefix("LOGITS ")))


@torch.inference_mode()
def own_logits(run_path: str, directory: str) -> torch.Tensor:
    """Of the network that an export's record names, cut out of the run's super-network."""
    checkpoint = Checkpoint.open(Path(run_path) / "supernet")
    weights = {name: tensor.float() for name, tensor in checkpoint.weights.items()}
    single = Checkpoint(checkpoint.directory, checkpoint.config, checkpoint.network, weights)
    decoder = single.cut(Architecture(**record_of(Path(directory))["architecture"]))
    tokens = load_tokenizer(checkpoint.directory)(PROMPT).input_ids
    return decoder.logits(decoder.hidden(pack([Tree.plain(tokens)])))


@pytest.mark.parametrize(
    ("run_path", "name", "remote"),
    [("runs/plain", "dense", False), ("runs/plain", "N2", True), ("runs/served", "N5", False), ("int8", "", True)],
    ids=["dense", "layers that differ", "INT8", "layers that differ in INT8"],
)
def test_transformers_computes_what_was_measured_without_nasfarm(
    run: Run, tmp_path: Path, run_path: str, name: str, remote: bool
) -> None:
    chosen: list[Any] = [run_path, name]
    if run_path == "int8":
        run_path = "runs/served"
        architecture = Architecture(layers=(0, 1, 3), mlp_widths=(8, 24, 16), quantization="int8")
        Path("differing.json").write_text(architecture.model_dump_json())
        chosen = [run_path, "--architecture", "differing.json"]
    ended = run("export", *chosen, "-o", "out", "--verify")
    assert ended.code == 0 and "Verified" in ended.output, ended
    assert ("auto_map" in read_config(Path("out"))) == remote
    torch.testing.assert_close(
        strangers_logits(Path("out"), tmp_path), own_logits(run_path, "out"), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("name", ["dense", "N2"])
def test_llama_cpp_verifies_and_loads_what_was_exported_and_the_file_says_what_it_is(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pytest.importorskip("xllamacpp")
    monkeypatch.setattr(export_network, "license_of", lambda *_: License("apache-2.0"))
    ended = run("export", "runs/plain", name, "--to", "gguf", "-o", "out", "--verify")
    assert ended.code == 0 and "96 of 96 greedy tokens" in ended.output, ended
    fields = GGUFReader("out/model-F32.gguf").fields
    said = {key: fields[key].contents() for key in ("general.name", "general.license", "general.base_model.0.name")}
    assert list(said.values()) == [f"plain-{name}", "apache-2.0", "base"]
    assert "license: apache-2.0" in Path("out/README.md").read_text()
    tokens = load_tokenizer(Path("runs/plain/supernet"))(PROMPT).input_ids
    (generated,) = ask_llama_cpp(Path("out/model-F32.gguf").resolve(), [tokens], 1).generated
    assert generated[0] == int(own_logits("runs/plain", "out")[-1].argmax())


def test_numbers_in_blocks_are_refused_for_rows_that_do_not_fill_them(run: Run) -> None:
    ended = run("export", "runs/plain", "dense", "--to", "gguf", "--type", "q8_0")
    assert ended.code == 2 and "q8_0 holds 32 numbers together" in ended.error and ended.error.count("\n") == 1
    assert not Path("exports").exists() or not list(Path("exports").iterdir())


@pytest.mark.parametrize(("run_path", "name"), [("runs/plain", "dense"), ("runs/plain", "N2"), ("runs/served", "N5")])
def test_what_is_written_for_vllm_has_its_layout_and_the_card_says_how_to_serve_it(
    run: Run, run_path: str, name: str
) -> None:
    ended = run("export", run_path, name, "--to", "vllm", "-o", "out")
    assert ended.code == 0 and "none: vLLM" in ended.output, ended
    assert record_of(Path("out"))["format"] == "vllm"
    config, card = read_config(Path("out")), Path("out/README.md").read_text()
    assert config["architectures"] == ["DeciLMForCausalLM" if name == "N2" else "LlamaForCausalLM"]
    assert ("quantization_config" in config) == (name == "N5")
    assert ("vllm serve . --trust-remote-code" in card) == (name == "N2")
