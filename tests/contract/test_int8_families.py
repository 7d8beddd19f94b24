"""Sub-networks in INT8: what transformers computes with bitsandbytes' layers, for every supported family."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Int8Params, Linear8bitLt
from torch import Tensor, nn
from transformers import PreTrainedModel

from services.evaluator.engines import make_engine
from shared.architecture import Architecture, dense, derive
from shared.messages import Dtype
from shared.network.sizes import weight_bytes
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from shared.supernet.device import torch_dtype
from shared.supernet.int8 import OUTLIER, Int8Linear
from shared.supernet.packing import pack
from shared.supernet.segments import Segments
from shared.supernet.tree import Tree
from tests.support.checkpoints import (
    FAMILIES,
    LAYERS,
    WIDTH,
    copied_subnet,
    logits_one_by_one,
    random_sequences,
    write_checkpoint,
)

SEQUENCES = random_sequences(40, 17)
SUBNETS = {
    "whole": Architecture(layers=tuple(range(LAYERS)), mlp_widths=(WIDTH,) * LAYERS),
    "subnet": Architecture(layers=(0, 3, 4), mlp_widths=(5, WIDTH, 2)),
}
"""Unquantised; odd widths are those that fast kernels like least."""

Made = tuple[Path, PreTrainedModel]


@pytest.fixture(scope="module", params=FAMILIES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    directory = tmp_path_factory.mktemp(request.param)
    return directory, write_checkpoint(directory, request.param)


@torch.inference_mode()
def logits(network: Decoder) -> list[Tensor]:
    """Each sequence is read alone, as bitsandbytes' layers have to read it."""
    return [network.logits(network.hidden(pack([Tree.plain(tokens)]))) for tokens in SEQUENCES]


def in_bitsandbytes_layers(model: PreTrainedModel) -> PreTrainedModel:
    """A transformers network whose decoder layers are made of bitsandbytes' modules."""
    for layer in model.model.layers:
        for part in (layer.self_attn, layer.mlp):
            for name, linear in list(part.named_children()):
                if isinstance(linear, nn.Linear):
                    setattr(part, name, _linear_8bit(linear))
    return model.eval()


def _linear_8bit(linear: nn.Linear) -> Linear8bitLt:
    biased = linear.bias is not None
    module = Linear8bitLt(
        linear.in_features, linear.out_features, bias=biased, has_fp16_weights=False, threshold=OUTLIER
    )
    module.weight = Int8Params(linear.weight.data.clone(), requires_grad=False, has_fp16_weights=False)
    module.bias = linear.bias
    return module.to("cpu")


def error(found: list[Tensor], reference: list[Tensor]) -> float:
    """Size of the difference relative to the reference's."""
    one, other = torch.cat(found), torch.cat(reference)
    return float((one - other).norm() / other.norm())


def tensors(network: Decoder) -> list[Tensor]:
    found: list[Tensor] = []

    def add(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    network.map(add)
    return found


@pytest.mark.parametrize("subnet", SUBNETS)
def test_a_network_in_int8_has_the_logits_of_one_of_bitsandbytes_layers(made: Made, subnet: str) -> None:
    directory, model = made
    ours = logits(Checkpoint.open(directory).cut(SUBNETS[subnet].quantized("int8")))
    plain = logits_one_by_one(copied_subnet(model, SUBNETS[subnet]), SEQUENCES)
    theirs = logits_one_by_one(in_bitsandbytes_layers(copied_subnet(model, SUBNETS[subnet])), SEQUENCES)
    lost = error(theirs, plain)
    assert 1e-3 < lost < 0.1
    assert error(ours, theirs) < 0.1 * lost
    assert error(ours, plain) < 0.1


def test_every_linear_layer_of_the_layers_is_quantised_and_nothing_else(made: Made) -> None:
    directory, _ = made
    checkpoint = Checkpoint.open(directory)
    before = {name: tensor.clone() for name, tensor in checkpoint.weights.items()}
    plain, network = (checkpoint.cut(SUBNETS["subnet"].quantized(how)) for how in ("none", "int8"))
    for layer, source in zip(network.layers, plain.layers, strict=True):
        assert len(layer.projections) == 7
        for linear, original in zip(layer.projections, source.projections, strict=True):
            assert isinstance(linear, Int8Linear)
            assert (linear.weight.dtype, linear.weight.shape) == (torch.int8, original.weight.shape)
            assert linear.bias is original.bias or linear.bias.data_ptr() == original.bias.data_ptr()
        for block, plain_block in ((layer.attention, source.attention), (layer.mlp, source.mlp)):
            for name in (field.name for field in fields(block) if "norm" in field.name):
                assert getattr(block, name) is getattr(plain_block, name)
    assert network.embeddings is plain.embeddings
    assert network.head is plain.head
    assert network.norm is plain.norm
    assert all(torch.equal(checkpoint.weights[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("quantization", ["none", "int8"])
@pytest.mark.parametrize("subnet", SUBNETS)
def test_the_computed_size_is_the_memory_held(made: Made, subnet: str, quantization: str, dtype: Dtype) -> None:
    directory, _ = made
    checkpoint = Checkpoint.open(directory)
    weights = {name: tensor.to(torch_dtype(dtype)) for name, tensor in checkpoint.weights.items()}
    architecture = SUBNETS[subnet].model_copy(update={"quantization": quantization})
    # A copy has no more than it shows, apart from tied embeddings, which are held once.
    network = checkpoint.cut(architecture, weights).map(
        lambda tensor: tensor.clone(memory_format=torch.contiguous_format)
    )
    held = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors(network)}
    assert (
        sum(held.values())
        == weight_bytes(derive(checkpoint.network, architecture), dtype, architecture.quantization)
        == network.bytes
    )


def test_what_int8_adds_in_memory_is_its_weights_and_scales(made: Made) -> None:
    directory, _ = made
    checkpoint = Checkpoint.open(directory)
    mapped = {tensor.untyped_storage().data_ptr() for tensor in checkpoint.weights.values()}
    network = checkpoint.cut(dense(checkpoint.network).quantized("int8"))
    added = [tensor for tensor in tensors(network) if tensor.untyped_storage().data_ptr() not in mapped]
    assert sum(tensor.untyped_storage().nbytes() for tensor in added) == sum(
        projection.weight.numel() + 4 * len(projection.weight)
        for layer in network.layers
        for projection in layer.projections
    )


def loud(checkpoint: Checkpoint, dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights with which many inputs are outliers."""
    return {name: (4 if "norm" in name else 1) * tensor.to(dtype) for name, tensor in checkpoint.weights.items()}


@torch.inference_mode()
@pytest.mark.parametrize("subnet", SUBNETS)
def test_a_sequence_has_to_the_last_bit_the_states_that_it_has_alone(made: Made, subnet: str) -> None:
    checkpoint = Checkpoint.open(made[0])
    network = checkpoint.cut(SUBNETS[subnet].quantized("int8"), loud(checkpoint, torch.bfloat16))
    company = [Tree.plain(tokens) for tokens in (*SEQUENCES, *random_sequences(3, 50, 1))]
    packed = pack(company)
    states = network.hidden(packed)
    for tree, start in zip(company, packed.starts, strict=True):
        assert torch.equal(states[start : start + len(tree)], network.hidden(pack([tree])))
    as_one = replace(packed, segments=Segments(torch.zeros_like(packed.segments.owners), 1))
    assert not torch.equal(network.hidden(as_one), states), "nothing depended on the outliers"


@pytest.mark.parametrize("subnet", SUBNETS)
def test_prompts_of_a_batch_go_on_as_each_would_alone(made: Made, subnet: str) -> None:
    checkpoint, engine = Checkpoint.open(made[0]), make_engine("torch", torch.device("cpu"))
    prompts = random_sequences(3, 14, 1, 6)
    checkpoint = replace(checkpoint, weights=loud(checkpoint, torch.float32))
    with engine.run(checkpoint, SUBNETS[subnet].quantized("int8"), "float32") as running:
        assert running.generate(prompts, 8) == [running.generate([prompt], 8)[0] for prompt in prompts]
