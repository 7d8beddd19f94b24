"""A GGUF file is the network that was exported: the real llama.cpp answers as our own engine does."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers

from services.exporter.gguf import Gguf
from services.exporter.gguf.layout import DECI, LAYOUTS
from services.exporter.gguf.numbers import q8_0_network
from services.exporter.gguf.tensors import interleaved
from services.exporter.gguf.vocabulary import LLAMA3_CUTS, QWEN2_CUTS, TEKKEN_CUTS
from services.exporter.names import GgufType
from services.exporter.network import ExportedNetwork
from shared.architecture import Architecture, dense
from shared.errors import UserError
from shared.network.families import FAMILIES
from shared.network.shape import LayerShape, MlpShape
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.packing import pack
from shared.supernet.saving import save_network
from shared.supernet.tokenizer import load_tokenizer
from shared.supernet.tree import Tree
from tests.support.checkpoints import LAYERS, WIDTH, random_model, random_sequences, tiny_tokenizer, write_checkpoint
from tests.support.data import ROOT
from tests.support.gguf_files import LENGTH, TEXTS, generated, written
from tests.support.llama_cpp import ask_llama_cpp
from tests.support.tokenizers import byte_level, metaspace, write_tokenizer
from tests.support.uneven import HIDDEN, UNEVEN, attention, network, write_uneven

PROMPTS = random_sequences(7, 12, 20)
LAYERED = Architecture(layers=(0, 1, 3, 4), mlp_widths=(WIDTH, 7, WIDTH, 12))
LOCAL = ["sliding_attention"] * 5
GEMMA = {"query_pre_attn_scalar": 12, "num_hidden_layers": 6, "layer_types": [*LOCAL, "full_attention"]}

Writer = Callable[[Path], object]


def of_family(name: str, **changes: object) -> Writer:
    return lambda directory: write_checkpoint(directory, name, **changes)


def uneven(name: str) -> Writer:
    return lambda directory: write_uneven(directory, name)


HELD: dict[str, tuple[Writer, Architecture | None, str]] = {
    "llama": (of_family("llama"), None, "llama"),
    "llama of other layers": (of_family("llama-grouped-tied"), LAYERED, "deci"),
    "llama, fewer layers": (of_family("llama"), Architecture(layers=(0, 2, 4), mlp_widths=(WIDTH,) * 3), "llama"),
    "llama with biases": (of_family("llama-biases"), None, "llama"),
    "llama with biases, of other layers": (of_family("llama-biases"), LAYERED, "deci"),
    "llama with heads of a size of their own": (of_family("llama-head-dim"), LAYERED, "deci"),
    "llama 3.1": (of_family("llama3-rope"), None, "llama"),
    "llama 3.1 of other layers": (of_family("llama3-rope"), LAYERED, "deci"),
    "yarn": (of_family("llama-yarn-rope", max_position_embeddings=256), None, "llama"),
    "yarn of other layers": (of_family("llama-yarn-rope", max_position_embeddings=256), LAYERED, "deci"),
    "mistral": (of_family("mistral"), None, "llama"),
    "mistral of other layers": (of_family("mistral"), LAYERED, "deci"),
    "qwen2": (of_family("qwen2"), None, "qwen2"),
    "qwen2 of other layers": (of_family("qwen2"), LAYERED, "deci"),
    "qwen3": (of_family("qwen3"), None, "qwen3"),
    "smollm3": (of_family("smollm3", no_rope_layers=[1, 1, 1, 0, 1]), None, "smollm3"),
    "smollm3 with rotary embeddings everywhere": (of_family("smollm3", no_rope_layers=[1] * LAYERS), LAYERED, "deci"),
    "gemma3": (of_family("gemma3", **GEMMA), None, "gemma3"),
    "gemma3, fewer layers": (
        of_family("gemma3", **GEMMA | {"layer_types": [*LOCAL, "full_attention"]}, tie_word_embeddings=False),
        Architecture(layers=(0, 2, 3), mlp_widths=(WIDTH,) * 3),
        "gemma3",
    ),
    "heads that differ": (uneven("llm-pruner"), None, "deci"),
    "layers without MLP": (uneven("no-mlp"), None, "deci"),
    "layers without attention": (uneven("gaps"), None, "deci"),
}
"""What is exported, and what llama.cpp calls it."""

UNEVEN["gaps"] = network(
    LayerShape(HIDDEN, attention(4, 2), MlpShape(24)),
    LayerShape(HIDDEN, None, MlpShape(11)),
    LayerShape(HIDDEN, None, None),
    LayerShape(HIDDEN, attention(2, 1), MlpShape(24)),
    LayerShape(HIDDEN, None, None),
)


def exported(directory: Path, write: Writer, architecture: Architecture | None = None) -> ExportedNetwork:
    write(directory)
    checkpoint = Checkpoint.open(directory)
    return ExportedNetwork(checkpoint, architecture or dense(checkpoint.network))


def test_for_every_family_there_are_architectures_to_try_the_one_for_layers_that_differ_last() -> None:
    assert LAYOUTS.keys() == FAMILIES.keys()
    assert all(layouts[-1] is DECI for layouts in LAYOUTS.values())


@pytest.mark.parametrize("name", HELD)
def test_llama_cpp_generates_the_tokens_of_our_own_engine(tmp_path: Path, name: str) -> None:
    write, architecture, called = HELD[name]
    network = exported(tmp_path / "model", write, architecture)
    file = written(network, tmp_path / "gguf")
    assert GGUFReader(file).get_field("general.architecture").contents() == called
    ours = generated(network, PROMPTS)
    assert len({tuple(tokens) for tokens in ours}) == len(PROMPTS) and len({*itertools.chain(*ours)}) > 5
    assert ask_llama_cpp(file, PROMPTS, LENGTH).generated == ours


@pytest.mark.parametrize("type", ["f16", "bf16", "q8_0"])
def test_the_other_types_load_and_answer(tmp_path: Path, type: GgufType) -> None:  # noqa: A002
    wide = of_family("llama", intermediate_size=64)
    network = exported(tmp_path / "model", wide, Architecture(layers=(0, 1, 4), mlp_widths=(64, 32, 64)))
    file = written(network, tmp_path / "gguf", type)
    assert file.name == f"model-{type.upper()}.gguf"
    assert [len(tokens) for tokens in ask_llama_cpp(file, PROMPTS, LENGTH).generated] == [LENGTH] * 3


@pytest.mark.parametrize("type", ["f32", "f16", "bf16", "q8_0"])
def test_bytes_are_those_that_are_written_and_told_of(tmp_path: Path, type: GgufType) -> None:  # noqa: A002
    network = exported(tmp_path, of_family("llama3-rope", intermediate_size=64))
    (tmp_path / "gguf").mkdir()
    told: list[int] = []
    Gguf(type).write(network, tmp_path / "gguf", told.append)
    tensors = GGUFReader(tmp_path / "gguf" / Gguf(type).file_name).tensors
    assert len(told) == len(tensors) == 2 + 1 + 9 * LAYERS + 1
    assert sum(told) == Gguf(type).bytes(network) == sum(int(tensor.n_bytes) for tensor in tensors)


def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    network = exported(tmp_path, of_family("llama3-rope"), LAYERED)
    (tmp_path / "gguf").mkdir()
    Gguf("bf16", "A title", "some/base", "apache-2.0").write(network, tmp_path / "gguf", lambda _: None)
    reader = GGUFReader(tmp_path / "gguf" / "model-BF16.gguf")
    said = {name: field.contents() for name, field in reader.fields.items()}
    expected = {
        "general.name": "A title",
        "general.license": "apache-2.0",
        "general.base_model.0.name": "some/base",
        "general.file_type": 32,
        "deci.context_length": 2048,
        "deci.block_count": 4,
        "deci.feed_forward_length": [WIDTH, 7, WIDTH, 12],
        "deci.attention.head_count": [4] * 4,
        "deci.attention.head_count_kv": [2] * 4,
        "deci.vocab_size": 800,
        "deci.rope.freq_base": 500000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.add_bos_token": False,
    }
    assert {name: said.get(name) for name in expected} == expected
    assert said["deci.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    assert "general.quantization_version" not in said


@torch.inference_mode()
def test_q8_0_is_measured_with_the_weights_that_the_file_holds(tmp_path: Path) -> None:
    wide = of_family("llama", intermediate_size=64)
    network = exported(tmp_path / "model", wide, Architecture(layers=(0, 1, 4), mlp_widths=(64, 32, 64)))
    reader = GGUFReader(written(network, tmp_path / "gguf", "q8_0"))
    held = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    rounded = q8_0_network(network)
    layer = rounded.layers[1]
    assert layer.attention is not None and layer.mlp is not None
    for name, tensor in {
        "token_embd.weight": rounded.embeddings,
        "output.weight": rounded.head,
        "output_norm.weight": rounded.norm,
        "blk.1.attn_q.weight": interleaved(layer.attention.query.weight, 4),
        "blk.1.attn_v.weight": layer.attention.value.weight,
        "blk.1.ffn_norm.weight": layer.mlp.norm,
        "blk.1.ffn_down.weight": layer.mlp.down.weight,
    }.items():
        np.testing.assert_array_equal(held[name], tensor.numpy(), err_msg=name, strict=True)
    exact = network.checkpoint.weights["model.embed_tokens.weight"]
    assert 1e-4 < float((rounded.embeddings - exact).abs().max()) < 0.02
    # As a checkpoint of its own it is the same network, which whoever evaluates opens like any other one.
    save_network(rounded, network.checkpoint, network.architecture.layers, tmp_path / "rounded")
    row = pack([Tree.plain(tokens) for tokens in PROMPTS])
    again = Checkpoint.open(tmp_path / "rounded").cut()
    assert torch.equal(again.logits(again.hidden(row)), rounded.logits(rounded.hidden(row)))


REFUSED: dict[str, tuple[Writer, Architecture | None, str]] = {
    "window": (of_family("mistral-window"), None, "llama can't hold this network: its layer 1 has a window"),
    "norms": (of_family("qwen3"), LAYERED, "deci can't hold this network: its layer 1 has normed queries"),
    "nope": (of_family("smollm3"), LAYERED, "deci can't hold this network: its layer 2 has no rotary embedding"),
    "nope, alike": (of_family("smollm3"), None, "smollm3 can't hold this network: its layer 2 lacks a rotary"),
    "gemma": (of_family("gemma3", **GEMMA), Architecture(layers=(0, 1), mlp_widths=(3, 4)), "deci .* has Gemma's"),
    "gemma, alike": (
        of_family("gemma3", **GEMMA),
        Architecture(layers=(0, 5), mlp_widths=(WIDTH,) * 2),
        "gemma3 can't hold this network: its layer 2 looks at all tokens",
    ),
    "gemma's scale": (of_family("gemma3"), None, "its layer 1 scales scores by 0.22"),
    "slicegpt": (uneven("slicegpt"), None, "SliceGPT"),
    "head sizes": (uneven("no-attention"), None, "heads of 8 and of 12 numbers"),
    "first layer": (uneven("attention-free-first-layer"), None, "its first layer has no attention"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_llama_cpp_cannot_compute_is_refused_by_name(tmp_path: Path, name: str) -> None:
    write, architecture, said = REFUSED[name]
    network = exported(tmp_path / "model", write, architecture)
    with pytest.raises(UserError, match=said):
        Gguf("f32").require_possible(network)


def test_q8_0_needs_widths_of_whole_blocks(tmp_path: Path) -> None:
    network = exported(tmp_path, of_family("llama", intermediate_size=64), Architecture(layers=(0,), mlp_widths=(40,)))
    with pytest.raises(UserError, match=r"q8_0 holds 32 numbers together, but rows of blk.0.ffn_down.weight have 40"):
        Gguf("q8_0").require_possible(network)
    Gguf("bf16").require_possible(network)


def test_numbers_beyond_float16_are_refused(tmp_path: Path) -> None:
    network = exported(tmp_path / "model", of_family("llama"))
    network.checkpoint.weights["model.layers.1.mlp.up_proj.weight"][0, 0] = 1e6
    with pytest.raises(UserError, match=r"blk.1.ffn_up.weight: has numbers that float16 can't hold"):
        written(network, tmp_path / "gguf", "f16")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's account of memory")
@pytest.mark.parametrize("type", ["f32", "q8_0"])
def test_the_network_is_never_in_memory_as_a_whole(tmp_path: Path, type: GgufType) -> None:  # noqa: A002
    sizes = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6, "vocab_size": 12_000}
    random_model("llama", **sizes).to(torch.bfloat16).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    program = [sys.executable, "-m", "tests.support.gguf_memory", str(tmp_path), str(tmp_path), type]
    done = subprocess.run(program, check=True, capture_output=True, text=True, cwd=ROOT)
    measured = json.loads(done.stdout)
    assert measured["float32"] > 140e6 and measured["peak"] < 0.5 * measured["float32"]


def digits() -> Tokenizer:
    return cutting(pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False))


def split(pattern: str) -> Tokenizer:
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return cutting(pre_tokenizers.Split(Regex(pattern), "isolated"), bytes_only)


def cutting(*steps: object) -> Tokenizer:
    tokenizer = byte_level()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(steps))
    return tokenizer


def words_taken_whole() -> Tokenizer:
    """As Llama 3's: a word of the vocabulary is one token, even if no merges lead to it."""
    tokenizer = split(LLAMA3_CUTS)
    model = json.loads(tokenizer.to_str())
    model["model"]["ignore_merges"] = True
    model["model"]["vocab"]["Hello"] = 1400
    return Tokenizer.from_str(json.dumps(model))


def spaces_alone() -> Tokenizer:
    """As Gemma's: spaces are ▁, and none is put before a text."""
    tokenizer = metaspace("<s> $A")
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


TOKENIZERS: dict[str, tuple[Callable[[], Tokenizer], str | None]] = {
    "gpt-2": (byte_level, "gpt-2"),
    "a text begins with BOS": (lambda: byte_level("<s> $A"), "gpt-2"),
    "smollm": (digits, "smollm"),
    "llama-bpe": (words_taken_whole, "llama-bpe"),
    "smaug-bpe": (lambda: split(LLAMA3_CUTS), "smaug-bpe"),
    "qwen2": (lambda: split(QWEN2_CUTS), "qwen2"),
    "tekken": (lambda: split(TEKKEN_CUTS), "tekken"),
    "llama 2": (metaspace, None),
    "gemma": (spaces_alone, None),
    "llama 2, as it is written now": (lambda: metaspace(legacy=False), None),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_llama_cpp_cuts_texts_as_the_tokenizer_does(tmp_path: Path, name: str) -> None:
    make, called = TOKENIZERS[name]
    network = exported(tmp_path / "model", of_family("llama", vocab_size=1500, num_hidden_layers=1))
    write_tokenizer(tmp_path / "model", make(), "PreTrainedTokenizerFast")
    file = written(network, tmp_path / "gguf")
    field = GGUFReader(file).get_field("tokenizer.ggml.pre")
    assert (None if field is None else field.contents()) == called
    tokenizer = load_tokenizer(tmp_path / "model")
    # SentencePiece puts a space before a text that begins with one, transformers no longer does.
    texts = [text.lstrip() for text in TEXTS] if name == "llama 2, as it is written now" else TEXTS
    assert ask_llama_cpp(file, texts=texts).tokens == [tokenizer.encode(text) for text in texts]


def test_an_unknown_way_of_cutting_texts_is_refused(tmp_path: Path) -> None:
    network = exported(tmp_path / "model", of_family("llama", vocab_size=1500))
    write_tokenizer(tmp_path / "model", split(r"\p{N}{1,5}|\s+"), "PreTrainedTokenizerFast")
    with pytest.raises(UserError, match=r"llama.cpp's tokenizers don't know this way of cutting texts: Split"):
        Gguf("f32").require_possible(network)
