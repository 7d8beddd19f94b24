"""The example model cut into layers of different widths: llama.cpp answers as our own engine does."""

import json
from pathlib import Path

from gguf import GGUFReader

from services.exporter.network import ExportedNetwork
from shared.architecture import Architecture
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.source import EXAMPLE_MODEL, fetch_model
from shared.supernet.tokenizer import load_tokenizer
from tests.support.gguf_files import LENGTH, TEXTS, generated, written
from tests.support.llama_cpp import ask_llama_cpp


def test_a_cut_of_the_example_model_answers_in_llama_cpp_as_here(tmp_path: Path) -> None:
    directory, _ = fetch_model(EXAMPLE_MODEL)
    kept = tuple(index for index in range(30) if index % 5 != 3)
    checkpoint = Checkpoint.open(directory)
    network = ExportedNetwork(checkpoint, Architecture(layers=kept, mlp_widths=(1536, 768) * 12))
    file = written(network, tmp_path / "gguf")
    tokenizer = load_tokenizer(directory)
    texts = ["The capital of France is", "Once upon a time, there was", "def add(a, b):\n    return"]
    prompts = [tokenizer.encode(text) for text in texts]
    answers = ask_llama_cpp(file, prompts, LENGTH, TEXTS)
    assert answers.generated == generated(network, prompts)
    assert answers.tokens == [tokenizer.encode(text) for text in TEXTS]
    said = {name: field.contents() for name, field in GGUFReader(file).fields.items()}
    assert said["general.architecture"] == "deci"
    template = (directory / "chat_template.jinja").read_text(encoding="utf-8")
    assert said["tokenizer.chat_template"].strip() == template.strip()
    eos = json.loads((directory / "config.json").read_text(encoding="utf-8"))["eos_token_id"]
    assert said["tokenizer.ggml.eos_token_id"] == eos
