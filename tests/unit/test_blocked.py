"""Layers in oneDNN's order compute what the plain ones compute."""

from dataclasses import fields
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from shared.architecture import Architecture
from shared.supernet.blocked import BlockedLinear, blocked
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder, Layer, Linear
from shared.supernet.int8 import quantize_layer
from shared.supernet.packing import pack
from shared.supernet.tree import Tree
from tests.support.checkpoints import WIDTH, random_sequences, write_checkpoint
from tests.support.passes import hidden_together

NATIVE = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
native = pytest.mark.skipif(not NATIVE, reason="this CPU doesn't multiply bfloat16 natively")
ROUNDING = 2**-8
SUBNET = Architecture(layers=(0, 1, 3), mlp_widths=(7, WIDTH, 13))
FAMILIES = ["llama-biases", "qwen2", "qwen3"]


def noise(*size: int, seed: int) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed)).bfloat16()


def checkpoint_of(directory: Path, family: str) -> tuple[Checkpoint, dict[str, Tensor]]:
    """A tiny super-network, and its weights in bfloat16."""
    write_checkpoint(directory, family)
    checkpoint = Checkpoint.open(directory)
    return checkpoint, {name: tensor.bfloat16() for name, tensor in checkpoint.weights.items()}


def assert_rounded(found: Tensor, exact: Tensor) -> None:
    """That a result is in bfloat16 and has been rounded about once on the way."""
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, rtol=1.5 * ROUNDING, atol=ROUNDING * exact.std().item())


@native
@pytest.mark.parametrize("tokens", [1, 9, 130])
@pytest.mark.parametrize("biased", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize("view", ["whole", "rows", "columns", "single"])
@torch.inference_mode()
def test_each_operation_is_the_plain_one_but_for_rounding(view: str, biased: bool, tokens: int) -> None:
    whole = noise(40, 48, seed=1)
    weight = {"whole": whole, "rows": whole[:23], "columns": whole[:, :29], "single": whole[:1, :1]}[view]
    assert weight.is_contiguous() == (view in ("whole", "rows", "single"))
    outputs, columns = weight.shape
    bias = noise(outputs, seed=2) if biased else None
    inputs, other = noise(tokens, columns, seed=3), noise(tokens, outputs, seed=4)
    given = [tensor.clone() for tensor in (whole, inputs, other)]
    linear = BlockedLinear.of(Linear(weight, bias))
    exact = F.linear(inputs.float(), weight.float(), None if bias is None else bias.float())
    if exact.numel() > 1:
        assert_rounded(linear(inputs), exact)
        assert_rounded(linear.activated(inputs, "silu"), F.silu(exact))
        assert_rounded(linear.plus(inputs, other), exact + other.float())
        assert_rounded(linear.times(inputs, other), exact * other.float())
    else:
        torch.testing.assert_close(linear(inputs).float(), exact, rtol=1.5 * ROUNDING, atol=ROUNDING)
    for before, after in zip(given, (whole, inputs, other), strict=True):
        assert torch.equal(before, after)


def is_blocked(layer: Layer) -> bool:
    return all(isinstance(projection, BlockedLinear) for projection in layer.projections)


@torch.inference_mode()
def states(network: Decoder, prepared: bool) -> Tensor:
    row = pack([Tree.plain(tokens) for tokens in random_sequences(30, 17, 3)])
    return hidden_together(network, [row], blocked if prepared else lambda layer: layer)[0]


@native
@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_of_blocked_layers_is_as_close_to_more_digits_as_the_plain_one(tmp_path: Path, family: str) -> None:
    checkpoint, weights = checkpoint_of(tmp_path, family)
    network = checkpoint.cut(SUBNET, weights)
    down = network.layers[0].mlp.down.weight
    assert not down.is_contiguous() and down.data_ptr() == weights["model.layers.0.mlp.down_proj.weight"].data_ptr()
    exact = states(network.map(lambda tensor: tensor.float()), False)
    plain, prepared = states(network, False), states(network, True)
    error, reference = ((found.float() - exact).square().mean().sqrt() for found in (prepared, plain))
    assert not torch.equal(plain, prepared), "both are the plain layers"
    assert 0 < error < 1.2 * reference
    assert reference < 0.05 * exact.std()


@native
@pytest.mark.parametrize("family", FAMILIES)
def test_a_blocked_layer_is_the_same_layer_otherwise(tmp_path: Path, family: str) -> None:
    checkpoint, weights = checkpoint_of(tmp_path, family)
    for layer, width in zip(checkpoint.cut(SUBNET, weights).layers, SUBNET.mlp_widths, strict=True):
        prepared = blocked(layer)
        assert is_blocked(prepared) and len(prepared.projections) == 7
        assert prepared.mlp.shape == layer.mlp.shape and prepared.mlp.shape.width == width
        for block, own in ((prepared.attention, layer.attention), (prepared.mlp, layer.mlp)):
            for field in fields(own):
                value, before = getattr(block, field.name), getattr(own, field.name)
                if isinstance(before, Linear):
                    assert isinstance(value, BlockedLinear) and value.bias is before.bias
                    assert value.weight.shape == before.weight.shape
                else:
                    assert value is before
        assert blocked(prepared) is prepared
        with pytest.raises(TypeError, match="stay as they are"):
            prepared.map(lambda tensor: tensor)


@native
def test_the_weights_of_the_supernet_are_not_changed(tmp_path: Path) -> None:
    checkpoint, weights = checkpoint_of(tmp_path, "llama-biases")
    before = {name: tensor.clone() for name, tensor in weights.items()}
    network = checkpoint.cut(SUBNET, weights)
    first = states(network, True)
    assert all(torch.equal(weights[name], tensor) for name, tensor in before.items())
    assert torch.equal(first, states(network, True))
    assert not any(is_blocked(layer) for layer in network.layers)


def test_layers_of_float32_of_int8_and_in_training_come_back_as_they_are(tmp_path: Path) -> None:
    checkpoint, weights = checkpoint_of(tmp_path, "llama-biases")
    plain = checkpoint.cut(SUBNET, weights).layers[0]
    assert is_blocked(blocked(plain)) == NATIVE
    trained = checkpoint.cut(SUBNET, {name: tensor.clone().requires_grad_() for name, tensor in weights.items()})
    last = {name: tensor.clone().requires_grad_("down_proj" in name) for name, tensor in weights.items()}
    half = checkpoint.cut(SUBNET, {name: tensor.half() for name, tensor in weights.items()})
    kept = [checkpoint.cut(SUBNET), half, trained, checkpoint.cut(SUBNET, last)]
    for layer in [network.layers[0] for network in kept] + [quantize_layer(plain)]:
        assert blocked(layer) is layer


def test_a_cpu_that_does_not_multiply_bfloat16_natively_keeps_plain_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    checkpoint, weights = checkpoint_of(tmp_path, "llama")
    layer = checkpoint.cut(SUBNET, weights).layers[0]
    assert blocked(layer) is layer
