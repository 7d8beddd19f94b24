"""GGUF exports verified by llama.cpp's greedy tokens: what counts as the same network."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from services.application.export.verification import gguf
from services.application.export.verification.float32 import in_float32
from services.application.export.verification.gguf import LENGTH, PROMPTS, LlamaCppVerifier
from services.application.export.verification.protocol import DifferentExportError, Verification
from services.application.export.verification.verified_items import VerifiedItems
from services.evaluator.batches import Continuation
from services.evaluator.placement import to_device
from services.exporter.names import GgufType
from services.exporter.network import ExportedNetwork
from shared.architecture import Architecture, Quantization
from shared.network.sizes import weight_bytes
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.packing import pack
from shared.supernet.tree import Tree
from tests.support.checkpoints import WIDTH, random_model, random_sequences, tiny_tokenizer, write_checkpoint

Tokens = list[list[int]]
ITEMS = VerifiedItems(
    (), (), tuple((Continuation(tuple(tokens), (2,)),) for tokens in random_sequences(5, 9, 3, 7)), "a fixed text"
)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> ExportedNetwork:
    directory = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(directory, "llama-grouped-tied")
    architecture = Architecture(layers=(0, 2, 3), mlp_widths=(WIDTH, WIDTH // 2, WIDTH))
    return ExportedNetwork(Checkpoint.open(directory), architecture)


@torch.inference_mode()
def own_tokens(network: ExportedNetwork) -> Tokens:
    """The greedy tokens of the network itself, which never ends."""
    decoder, answers = network.checkpoint.cut(network.architecture), []
    for (prompt,), _ in zip(ITEMS.windows, range(PROMPTS), strict=False):
        tokens = list(prompt.inputs)
        for _ in range(LENGTH):
            logits = decoder.logits(decoder.hidden(pack([Tree.plain(tokens)]))[-1])
            logits[tiny_tokenizer().all_special_ids] = float("-inf")
            tokens.append(int(logits.argmax()))
        answers.append(tokens[len(prompt.inputs) :])
    return answers


def verified(
    network: ExportedNetwork,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    change: Callable[[Tokens], Tokens],
    gguf_type: GgufType = "f32",
) -> Verification:
    (tmp_path / "model.gguf").touch()
    monkeypatch.setattr(gguf, "_greedy_tokens", lambda *_: change(own_tokens(network)))
    return LlamaCppVerifier(gguf_type).verify(network, tmp_path, ITEMS, lambda: None)


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_what_is_compared_takes_the_memory_of_the_network_alone_and_has_its_values(
    tmp_path: Path, quantization: Quantization
) -> None:
    """Not that of its whole super-network in float32, 27 GB of LLaMA2-7B."""
    random_model("llama").bfloat16().save_pretrained(tmp_path)
    checkpoint = Checkpoint.open(tmp_path)
    assert {tensor.dtype for tensor in checkpoint.weights.values()} == {torch.bfloat16}
    chosen = Architecture(layers=(0, 3), mlp_widths=(WIDTH // 2, WIDTH // 4), quantization=quantization)
    network = ExportedNetwork(checkpoint, chosen)
    held: dict[int, int] = {}

    def hold(tensor: torch.Tensor) -> torch.Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    in_float32(network).map(hold)
    assert sum(held.values()) == weight_bytes(network.shape, "float32", quantization)
    whole = to_device(checkpoint, torch.device("cpu"), torch.float32).cut(chosen)
    pairs = zip(in_float32(network).weights(), whole.weights(), strict=True)
    assert all(torch.equal(one, other) for (_, one), (_, other) in pairs)


def one_other(tokens: Tokens) -> Tokens:
    return [[*tokens[0][:4], (tokens[0][4] + 7) % 800, *tokens[0][5:]], *tokens[1:]]


def test_the_network_s_own_tokens_are_the_same_network(
    network: ExportedNetwork, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = verified(network, monkeypatch, tmp_path, lambda tokens: tokens)
    assert "96 of 96 greedy tokens" in found.in_words() and "3 prompts of a fixed text" in found.in_words()


def test_a_single_other_token_is_another_network_unless_weights_are_rounded(
    network: ExportedNetwork, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(DifferentExportError, match=r"not the network that was measured, and was removed"):
        verified(network, monkeypatch, tmp_path, one_other)
    found = verified(network, monkeypatch, tmp_path, one_other, "q8_0")
    assert "96 greedy tokens" in found.in_words() and "96 of 96" not in found.in_words()


@pytest.mark.parametrize("gguf_type", ["f32", "q8_0"])
def test_tokens_by_chance_and_too_few_tokens_are_another_network(
    network: ExportedNetwork, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gguf_type: GgufType
) -> None:
    for change in (lambda _: random_sequences(*[LENGTH] * PROMPTS), lambda tokens: [part[:2] for part in tokens]):
        with pytest.raises(DifferentExportError, match="not the network"):
            verified(network, monkeypatch, tmp_path, change, gguf_type)


def test_a_file_that_llama_cpp_can_not_load_is_said_to_be_so(network: ExportedNetwork, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    (tmp_path / "model.gguf").write_bytes(b"GGUF and nothing else")
    with pytest.raises(DifferentExportError, match=r"can't be loaded by llama.cpp, and was removed \(.+\)"):
        LlamaCppVerifier("f32").verify(network, tmp_path, ITEMS, lambda: None)
