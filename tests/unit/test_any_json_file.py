"""Whatever is in the JSON files that people bring: it is read, or one short line says what is wrong and where."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from services.application.architecture_file import read_architecture
from services.trainer.data import load_instructions
from shared.environment import Environment
from shared.errors import UserError
from shared.manifest import SupernetManifest, read_network
from shared.supernet.checkpoint import Checkpoint, weight_files
from shared.supernet.tokenizer import load_tokenizer
from shared.text import one_line
from tests.support.checkpoints import write_checkpoint

FIXTURES = Path(__file__).parents[1] / "fixtures"
LONGEST = 500
NO_JSON = {
    "nested lists": "[" * 100_000,
    "nested objects": '{"a":' * 100_000,
    "thousands of digits": '{"layers": [' + "9" * 5000 + "]}",
    "not in UTF-8": b"\xff\xfe\x00",
    "nothing": "",
    "half": '{"layers": [0',
}
VALUES = {
    "long number": "9" * 4000,
    "long negative number": "-" + "9" * 4000,
    "NaN": "NaN",
    "infinity": "1e999",
    "nested": "[" * 150 + "]" * 150,
    "long text": '"' + "x" * 100_000 + '"',
    "half of a character": '"\\ud800"',
    "null": "null",
    "object": '{"a": {"b": [1]}}',
    "negative": "-1",
}
ARCHITECTURE = {"layers": [0, 2], "mlp_widths": [24, 12]}


def instructions(path: Path) -> object:
    return load_instructions(str(path), Environment(data=None, cache=path.parent, threads=1))


READERS: dict[str, Callable[[Path], object]] = {
    "architecture.json": read_architecture,
    "supernet.json": lambda path: SupernetManifest.read(path.parent),
    "config.json": lambda path: read_network(path.parent),
    "tokenizer.json": lambda path: load_tokenizer(path.parent),
    "model.safetensors.index.json": lambda path: weight_files(path.parent),
    "rows.jsonl": instructions,
    "rows.json": instructions,
    "rows.csv": instructions,
}


def refused(read: Callable[[Path], object], path: Path) -> None:
    with pytest.raises(UserError) as refusal:
        read(path)
    words = one_line(str(refusal.value))
    assert len(words) - len(str(path)) < LONGEST, words
    assert path.name in words or str(path.parent) in words


@pytest.mark.parametrize("content", NO_JSON.values(), ids=NO_JSON.keys())
@pytest.mark.parametrize("name", READERS.keys())
def test_what_is_no_json_is_refused_by_the_name_of_its_file(tmp_path: Path, name: str, content: str | bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(READERS[name], path)


@pytest.mark.parametrize("content", NO_JSON.values(), ids=NO_JSON.keys())
def test_an_adapter_whose_description_is_no_json_is_still_called_one(tmp_path: Path, content: str | bytes) -> None:
    (tmp_path / "adapter_config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"holds an adapter \(PEFT\) to a model, not a network"):
        read_network(tmp_path)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
@pytest.mark.parametrize("field", ["layers", "mlp_widths"])
def test_a_wrong_value_in_an_architecture_is_refused_by_file_and_field(tmp_path: Path, field: str, value: str) -> None:
    path = tmp_path / "architecture.json"
    text = json.dumps({**ARCHITECTURE, field: ["here", 2]}).replace('"here"', value)
    path.write_text(text)
    refused(read_architecture, path)


def test_the_architecture_that_is_spoilt_above_is_one(tmp_path: Path) -> None:
    (tmp_path / "architecture.json").write_text(json.dumps(ARCHITECTURE))
    assert read_architecture(tmp_path / "architecture.json").layers == (0, 2)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
@pytest.mark.parametrize("field", ["num_hidden_layers", "intermediate_size", "vocab_size", "model_type", "hidden_act"])
def test_a_wrong_value_in_config_json_is_refused_by_file_and_field(tmp_path: Path, field: str, value: str) -> None:
    write_checkpoint(tmp_path, "llama-grouped-tied")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, field: "here"}).replace('"here"', value))
    refused(lambda path: Checkpoint.open(path.parent), tmp_path / "config.json")


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
@pytest.mark.parametrize(
    "field", ["rope_parameters", "rope_theta", "rms_norm_eps", "max_position_embeddings", "layer_types", "unknown"]
)
def test_any_value_of_what_only_transformers_reads_is_taken_or_refused_in_one_short_line(
    tmp_path: Path, field: str, value: str
) -> None:
    write_checkpoint(tmp_path, "llama-grouped-tied")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, field: "here"}).replace('"here"', value))
    try:
        Checkpoint.open(tmp_path).cut()
    except UserError as error:
        refusal = one_line(str(error))
        assert len(refusal) - len(str(tmp_path)) < LONGEST


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
@pytest.mark.parametrize("field", ["drop_order", "plan", "losses", "space", "files", "version", "unknown"])
def test_any_value_in_supernet_json_is_taken_or_refused_in_one_short_line(
    tmp_path: Path, field: str, value: str
) -> None:
    manifest = json.loads((FIXTURES / "format-2/runs/plain/supernet/supernet.json").read_text())
    (tmp_path / "supernet.json").write_text(json.dumps({**manifest, field: "here"}).replace('"here"', value))
    try:
        SupernetManifest.read(tmp_path)
    except UserError as error:
        refusal = one_line(str(error))
        assert len(refusal) - len(str(tmp_path)) < LONGEST


@pytest.mark.parametrize("value", [value for name, value in VALUES.items() if name != "long text"])
def test_a_row_of_training_data_with_any_value_is_trained_on_or_left_out_with_a_word(
    tmp_path: Path, value: str
) -> None:
    path = tmp_path / "rows.jsonl"
    good = json.dumps({"instruction": "a", "input": "", "output": "b"})
    path.write_text(f"{good}\n" + good.replace('"b"', value) + "\n")
    found = load_instructions(str(path), Environment(data=None, cache=tmp_path, threads=1))
    assert len(found.rows) == 2 or "left out" in found.left_out
    assert len(found.left_out) - len(str(path)) < LONGEST
