"""SliceGPT: what slicing keeps, what it costs, and what it refuses."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from services.pruner import state_slicing
from services.pruner.principal_basis import Basis, principal_basis
from services.pruner.sliced_shape import hidden_for, sliced_shape
from services.pruner.state_slicing import slice_network
from shared.errors import UserError
from shared.network import families
from shared.network.shape import NetworkShape
from shared.network.sizes import parameters, weight_bytes
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from shared.supernet.packing import pack
from shared.supernet.saving import save_network
from shared.supernet.tree import Tree
from tests.support.checkpoints import FAMILIES, VOCABULARY, random_sequences, write_checkpoint
from tests.support.networks import uniform_network
from tests.support.uneven import HIDDEN, UNEVEN, write_uneven

TEXT = random_sequences(40, 3, 70, 21)
SEQUENCES = random_sequences(3, 20, 9, seed=1)
SLICED = [name for name, family in families.FAMILIES.items() if family.turnable]
SLICEABLE = [name for name, (config, _) in FAMILIES.items() if config.model_type in SLICED]
MISSING_BLOCKS = ["llm-pruner", "no-attention", "attention-free-first-layer", "no-mlp"]
TOLERANCE = 2e-4


@torch.inference_mode()
def logits(network: Decoder) -> Tensor:
    return network.logits(network.hidden(pack([Tree.plain(tokens) for tokens in SEQUENCES])))


def opened(directory: Path, name: str) -> Checkpoint:
    """A random checkpoint of a family, or one of those whose layers differ."""
    if name in UNEVEN:
        write_uneven(directory, name)
    else:
        write_checkpoint(directory, name)
    return Checkpoint.open(directory)


def change(model: PreTrainedModel, part: str, how: Callable[[Tensor], Tensor]) -> None:
    """Change every weight of that name."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if part in name:
                parameter.copy_(how(parameter))


@pytest.mark.parametrize("name", [*SLICEABLE, *MISSING_BLOCKS])
def test_a_network_of_which_all_is_kept_has_the_same_logits(name: str, tmp_path: Path) -> None:
    base = opened(tmp_path, name)
    sliced = slice_network(base, TEXT, HIDDEN)
    expected = logits(base.cut())
    assert expected.std() > 0.1
    torch.testing.assert_close(logits(sliced), expected, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("name", [*SLICEABLE, *MISSING_BLOCKS])
def test_what_is_written_is_what_was_sliced_and_of_the_size_that_was_computed(name: str, tmp_path: Path) -> None:
    base = opened(tmp_path / "base", name)
    sliced = slice_network(base, TEXT, 20)
    save_network(sliced, base, range(base.network.depth), tmp_path / "sliced")
    again = Checkpoint.open(tmp_path / "sliced")
    assert again.network == sliced.shape == sliced_shape(base.network, 20)
    assert {layer.hidden for layer in again.network.layers} == {again.network.outputs} == {20}
    assert torch.equal(logits(again.cut()), logits(sliced))
    assert not torch.allclose(logits(sliced), logits(base.cut()), atol=0.1)
    assert parameters(sliced.shape) == sum(tensor.numel() for tensor in again.weights.values())
    assert weight_bytes(sliced.shape, "float32", "none") == sliced.bytes


@pytest.mark.parametrize("name", ["llama-biases", "mistral-window", "qwen2-window", "qwen3", "smollm3"])
def test_states_that_lie_in_a_subspace_can_be_sliced_to_it(name: str, tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "whole", name, rms_norm_eps=0.05)  # so large that it matters
    subspace = torch.linalg.qr(torch.randn(HIDDEN, 12, generator=torch.Generator().manual_seed(3))).Q
    onto = subspace @ subspace.T
    change(model, "embed_tokens", lambda words: words @ onto)
    change(model, "o_proj", lambda outputs: onto @ outputs)
    change(model, "down_proj", lambda outputs: onto @ outputs)
    model.save_pretrained(tmp_path / "whole")
    base = Checkpoint.open(tmp_path / "whole")
    expected = logits(base.cut())
    torch.testing.assert_close(logits(slice_network(base, TEXT, 12)), expected, atol=TOLERANCE, rtol=TOLERANCE)
    assert (logits(slice_network(base, TEXT, 11)) - expected).abs().max() > 0.05


def test_the_directions_are_those_of_the_states_as_they_are_and_no_mean_is_subtracted() -> None:
    along = torch.eye(6)
    noise = 0.1 * torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    # A single huge state counts for more than all others, most of which lie in their mean; with their lengths made
    # equal the three would come in another order.
    states = torch.cat((noise + 3 * along[2], 1000 * along[4:5], 2 * along[5].repeat(50, 1)))
    basis = principal_basis(states.split(64), 3)
    assert basis.directions.dtype == torch.float64
    torch.testing.assert_close(basis.directions.abs()[[4, 2, 5], [0, 1, 2]], torch.ones(3).double(), atol=0.02, rtol=0)
    torch.testing.assert_close(basis.directions.T @ basis.directions, torch.eye(3).double())


def test_each_basis_is_found_with_the_blocks_before_it_sliced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = opened(tmp_path, "llama")
    seen: list[Tensor] = []

    def recording(states: list[Tensor], kept: int) -> Basis:
        seen.append(torch.cat(states))
        return principal_basis(states, kept)

    monkeypatch.setattr(state_slicing, "principal_basis", recording)
    sliced, row = slice_network(base, TEXT, 20), pack([Tree.plain(tokens) for tokens in TEXT])
    assert len(seen) == 1 + 2 * base.network.depth
    outputs: list[Tensor] = []
    sliced.hidden(row, lambda _index, _before, _neurons, after: outputs.append(after))
    bases = [principal_basis([states], 20) for states in seen[2::2]]
    for basis, states, found in zip(bases, seen[2::2], outputs, strict=True):
        torch.testing.assert_close(found, basis.held(states).float(), atol=TOLERANCE, rtol=TOLERANCE)


def test_slicing_again_gives_the_same_network_however_the_text_is_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = opened(tmp_path, "qwen3")
    first, second = (dict(slice_network(base, TEXT, 20).weights()) for _ in range(2))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    together = logits(slice_network(base, TEXT, 20))
    monkeypatch.setattr(state_slicing, "ROW_TOKENS", 1)
    alone = logits(slice_network(base, [[], *TEXT], 20))
    torch.testing.assert_close(alone, together, atol=1e-3, rtol=1e-3)


def test_a_network_stays_in_its_dtype(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "base", "llama-biases")
    model.to(torch.bfloat16).save_pretrained(tmp_path / "base")
    base = Checkpoint.open(tmp_path / "base")
    sliced = slice_network(base, TEXT, 24)
    assert {tensor.dtype for _, tensor in sliced.weights()} == {torch.bfloat16}
    assert not any(tensor.is_inference() for _, tensor in sliced.weights()), "which can't be fine-tuned"
    assert sliced.bytes == weight_bytes(sliced_shape(base.network, 24), "bfloat16", "none")


def test_the_base_s_own_weights_are_left_alone(tmp_path: Path) -> None:
    base = opened(tmp_path, "llama-grouped-tied")
    before = {name: tensor.clone() for name, tensor in base.weights.items()}
    slice_network(base, TEXT, 20)
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.weights.items())


@pytest.mark.parametrize(
    ("name", "text", "hidden", "complaint"),
    [
        ("gemma3", TEXT, 20, "family gemma3_text can't be sliced; use one of llama, mistral, qwen2, qwen3, smollm3"),
        ("slicegpt", TEXT, 20, "layer 0 is sliced already, with a matrix on its shortcut; give the network that"),
        ("llama", TEXT, 0, "a hidden size of 0 is impossible, it must be from 1 to 32"),
        ("llama", TEXT, 33, "a hidden size of 33 is impossible"),
        ("llama", [], 20, "0 calibration tokens can't tell which 20 directions matter"),
        ("llama", [[1] * 19], 20, "19 calibration tokens can't tell which 20"),
        ("llama", [*TEXT, [VOCABULARY]], 20, "token 800 of the calibration text is none of the network's 0 to 799"),
        ("llama", [*TEXT, [-1]], 20, "token -1 of the calibration text is none"),
    ],
)
def test_what_can_t_be_sliced_is_refused_before_anything_is_computed(
    name: str, text: list[list[int]], hidden: int, complaint: str, tmp_path: Path
) -> None:
    base = replace(opened(tmp_path, name), weights={})  # of which nothing can be cut
    with pytest.raises(UserError, match=complaint) as refusal:
        slice_network(base, text, hidden)
    assert "\n" not in str(refusal.value)


def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    base = opened(tmp_path, "llama")
    name = "model.layers.1.mlp.down_proj.weight"
    damaged = replace(base, weights={**base.weights, name: torch.full_like(base.weights[name], float("nan"))})
    with pytest.raises(UserError, match="states are no finite numbers; is the checkpoint damaged"):
        slice_network(damaged, TEXT, 20)


LLAMA2_7B = uniform_network(32, 11008, 4096, heads=32, kv_heads=32, vocab_size=32000, tied_embeddings=False)
SMALL = uniform_network(3, 48, 64, tied_embeddings=True)


def test_sizes_are_those_that_were_published_for_llama_2() -> None:
    """Removed with "20 / 25 / 30 %": 9.4 / 15.3 / 21.5 %, with a head that is not sliced; "10 %" adds 3 %."""
    dense = parameters(LLAMA2_7B)
    for hidden, removed in ((3272, 0.094), (3072, 0.153), (2864, 0.215), (3680, -0.03)):
        sliced = sliced_shape(LLAMA2_7B, hidden)
        whole_head = replace(sliced.layers[-1], mlp_shortcut=LLAMA2_7B.hidden)
        theirs = replace(sliced, layers=(*sliced.layers[:-1], whole_head))
        assert 1 - parameters(theirs) / dense == pytest.approx(removed, abs=0.0006), hidden
        assert parameters(theirs) > parameters(sliced)
    assert hidden_for(LLAMA2_7B, dense - 1, parameters, 8) == 3592
    assert parameters(sliced_shape(LLAMA2_7B, 3600)) > dense


@given(st.integers(1, parameters(SMALL) + 10), st.integers(1, 70), st.booleans())
def test_the_largest_slice_that_fits_is_found_or_the_target_is_refused(most: int, step: int, in_bytes: bool) -> None:
    size = partial(weight_bytes, dtype="bfloat16", quantization="int8") if in_bytes else parameters
    fitting = [
        hidden for hidden in range(step, SMALL.hidden, step) if size(sliced_shape(SMALL, hidden)) <= most < size(SMALL)
    ]
    try:
        found, said = [hidden_for(SMALL, most, size, step)], ""
    except UserError as error:
        found, said = [], str(error)
    assert found == fitting[-1:] and "\n" not in said


@pytest.mark.parametrize(
    ("network", "most", "step", "complaint"),
    [
        (SMALL, parameters(SMALL), 8, r"isn't below the network's own [0-9,]+: slicing that little makes it grow"),
        (SMALL, 100, 8, r"a target of 100 can't be reached: with the smallest hidden size, 8, the network has 10,104;"),
        (SMALL, 10_000, 64, r"no hidden size below the network's 64 is a multiple of 64"),
        (replace(SMALL, family="gemma3_text"), 10_000, 8, r"networks of the family gemma3_text can't be sliced"),
        (UNEVEN["slicegpt"], 10_000, 8, r"layer 0 is sliced already"),
    ],
)
def test_a_target_that_slicing_can_t_reach_is_refused(
    network: NetworkShape, most: int, step: int, complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        hidden_for(network, most, parameters, step)


@pytest.mark.parametrize("family", SLICED)
def test_families_that_are_sliced_norm_nothing_but_what_their_blocks_read(family: str) -> None:
    assert not any("post_norm" in part for part in families.family_of(family).names)
