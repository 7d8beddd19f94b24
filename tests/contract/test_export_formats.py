"""What holds for every format: a network is written as it is, as large as was said, or refused before anything is."""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file
from transformers import AutoTokenizer

from services.exporter.formats import WRITERS
from services.exporter.network import ExportedNetwork
from services.exporter.protocol import ExportFormat
from shared.architecture import Architecture
from shared.errors import UserError
from shared.manifest import read_config
from shared.supernet.checkpoint import WEIGHTS, Checkpoint
from tests.support.checkpoints import random_sequences, write_checkpoint
from tests.support.exports import FORMATS, LAYERED, NETWORKS, SHALLOW, Exported, network, own_logits, written

SEQUENCES = random_sequences(1, 12, 23)
HEADERS = 2**20
"""More than a tiny network's file holds beside its tensors."""


@pytest.fixture(params=FORMATS)
def exported(request: pytest.FixtureRequest) -> Exported:
    return FORMATS[request.param]


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ExportedNetwork]:
    """Each network, made once for all formats."""
    root = tmp_path_factory.mktemp("networks")
    return cache(lambda name: network(root / name, name))


def refusal(form: ExportFormat, network: ExportedNetwork) -> str | None:
    try:
        form.require_possible(network)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_written_whole_as_large_as_was_said_or_refused_in_one_line_before_anything_is(
    exported: Exported, name: str, chosen: Callable[[str], ExportedNetwork], tmp_path: Path
) -> None:
    directory, network, form, steps = tmp_path, chosen(name), exported.format, list[int]()
    refused = refusal(form, network)
    if refused is not None:
        assert "\n" not in refused
        with pytest.raises(UserError, match=re.escape(refused)):
            form.write(network, directory, steps.append)
        assert not list(directory.iterdir()) and not steps
        return
    form.write(network, directory, steps.append)
    weights = [file for file in directory.iterdir() if file.suffix in (".safetensors", ".gguf")]
    assert sum(steps) == form.bytes(network)
    assert 0 <= sum(file.stat().st_size for file in weights) - form.bytes(network) < HEADERS
    if exported.logits is not None:
        for ours, theirs in zip(own_logits(network, SEQUENCES), exported.logits(directory, SEQUENCES), strict=True):
            assert ours.std() > 0.1, "the reference says nothing"
            torch.testing.assert_close(theirs, ours, atol=2e-5, rtol=1e-5)


CHAT = "{% for message in messages %}<{{ message.content }}>{% endfor %}"
GENERATION = {"temperature": 0.7, "top_p": 0.9, "do_sample": True, "eos_token_id": [1, 5]}


@pytest.mark.parametrize("architecture", [LAYERED, SHALLOW], ids=["layered", "shallow"])
def test_types_tied_embeddings_and_what_goes_along_with_a_network_stay_what_they_were(
    exported: Exported, architecture: Architecture, tmp_path: Path
) -> None:
    base, directory = tmp_path / "base", tmp_path / "export"
    write_checkpoint(base, "llama-grouped-tied").to(torch.bfloat16).save_pretrained(base)
    (base / "chat_template.jinja").write_text(CHAT)
    (base / "generation_config.json").write_text(json.dumps(GENERATION))
    written(ExportedNetwork(Checkpoint.open(base), architecture), exported.format, directory)
    if exported.format.name == "gguf":
        reader = GGUFReader(directory / "model-F32.gguf")
        assert reader.get_field("tokenizer.chat_template").contents() == CHAT
        assert "output.weight" not in {tensor.name for tensor in reader.tensors}
        return
    assert AutoTokenizer.from_pretrained(directory).chat_template == CHAT
    assert json.loads((directory / "generation_config.json").read_text()) == GENERATION
    weights, config = load_file(directory / WEIGHTS), read_config(directory)
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert {config[key] for key in ("dtype", "torch_dtype") if key in config} == {"bfloat16"}
    assert config["tie_word_embeddings"] and "lm_head.weight" not in weights


def test_no_format_refuses_more_than_it_must(exported: Exported, chosen: Callable[[str], ExportedNetwork]) -> None:
    assert sum(refusal(exported.format, chosen(name)) is not None for name in NETWORKS) == exported.refused


def test_every_format_is_tested_under_its_own_name() -> None:
    assert FORMATS.keys() == WRITERS.keys()
    assert all(exported.format.name == name for name, exported in FORMATS.items())
