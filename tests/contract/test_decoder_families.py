"""The decoder computes what transformers computes, for every supported family and every sub-network."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from shared.architecture import Architecture, derive
from shared.errors import UserError
from shared.network.sizes import parameters
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from shared.supernet.packing import pack
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

TOLERANCE = 1e-5
SEQUENCES = random_sequences(3, 40, 17, 16, 1)
SUBNETS = {
    "first-layers": Architecture(layers=(0, 1, 2), mlp_widths=(WIDTH, 7, 12)),
    "inner-layers-dropped": Architecture(layers=(0, 3, 4), mlp_widths=(5, WIDTH, 1)),
    "only-narrow": Architecture(layers=tuple(range(LAYERS)), mlp_widths=(12, 6, 12, 6, 12)),
    "one-layer": Architecture(layers=(3,), mlp_widths=(9,)),
}

Made = tuple[Path, PreTrainedModel]


@pytest.fixture(scope="module", params=FAMILIES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    directory = tmp_path_factory.mktemp(request.param)
    return directory, write_checkpoint(directory, request.param)


@torch.inference_mode()
def packed_logits(network: Decoder, sequences: list[list[int]] = SEQUENCES) -> list[Tensor]:
    packed = pack([Tree.plain(tokens) for tokens in sequences])
    logits = network.logits(network.hidden(packed))
    return [logits[start : start + len(tokens)] for start, tokens in zip(packed.starts, sequences, strict=True)]


def assert_same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for own, reference in zip(ours, theirs, strict=True):
        assert reference.std() > 0.1, "the reference says nothing"
        torch.testing.assert_close(own, reference, atol=TOLERANCE, rtol=TOLERANCE)


def test_the_whole_network_has_transformers_logits(made: Made) -> None:
    directory, model = made
    assert_same(packed_logits(Checkpoint.open(directory).cut()), logits_one_by_one(model, SEQUENCES))


@pytest.mark.parametrize("subnet", SUBNETS)
def test_a_subnet_has_the_logits_of_a_network_of_copied_slices(made: Made, subnet: str) -> None:
    directory, model = made
    architecture = SUBNETS[subnet]
    reference = copied_subnet(model, architecture)
    assert_same(packed_logits(Checkpoint.open(directory).cut(architecture)), logits_one_by_one(reference, SEQUENCES))


@pytest.mark.parametrize("subnet", SUBNETS)
def test_the_parameters_of_a_subnet_are_those_of_a_network_of_copied_slices(made: Made, subnet: str) -> None:
    directory, model = made
    reference = copied_subnet(model, SUBNETS[subnet])
    assert parameters(derive(Checkpoint.open(directory).network, SUBNETS[subnet])) == reference.num_parameters()


def test_every_weight_matters_to_the_logits(made: Made) -> None:
    directory, _ = made
    checkpoint = Checkpoint.open(directory)
    whole = torch.cat(packed_logits(checkpoint.cut()))
    for name, tensor in checkpoint.weights.items():
        changed = {**checkpoint.weights, name: tensor.roll(1, 0) * 1.1 + 0.05}
        difference = (torch.cat(packed_logits(checkpoint.cut(weights=changed))) - whole).abs().max()
        assert difference > 1e-4, name


def test_a_subnet_is_made_of_the_mapped_file_without_a_copy(made: Made) -> None:
    directory, _ = made
    checkpoint = Checkpoint.open(directory)
    mapped = {tensor.untyped_storage().data_ptr() for tensor in checkpoint.weights.values()}
    used: list[Tensor] = []
    subnet = checkpoint.cut(SUBNETS["inner-layers-dropped"])
    subnet.map(lambda tensor: used.append(tensor) or tensor)  # type: ignore[func-returns-value]
    assert len(used) > 3 * 9
    assert all(tensor.untyped_storage().data_ptr() in mapped for tensor in used)
    first, last = subnet.layers[0], subnet.layers[-1]
    assert first.mlp is not None and last.mlp is not None
    assert first.mlp.gate.weight.data_ptr() == checkpoint.weights["model.layers.0.mlp.gate_proj.weight"].data_ptr()
    assert last.mlp.down.weight.data_ptr() == checkpoint.weights["model.layers.4.mlp.down_proj.weight"].data_ptr()
    assert last.mlp.down.weight.stride() == (WIDTH, 1)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's list of mapped files")
def test_the_weights_lie_in_the_pages_of_the_file(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "qwen2")
    subnet = Checkpoint.open(tmp_path).cut(SUBNETS["first-layers"])
    ranges = [
        tuple(int(end, 16) for end in line.split()[0].split("-"))
        for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
        if line.endswith(str(tmp_path / "model.safetensors"))
    ]
    assert ranges
    for tensor in (subnet.embeddings, subnet.layers[2].mlp.up.weight, subnet.layers[1].attention.query.bias):
        assert tensor is not None
        assert any(start <= tensor.data_ptr() < end for start, end in ranges)


def test_a_checkpoint_in_bfloat16_stays_bfloat16_when_cut(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama").to(torch.bfloat16).save_pretrained(tmp_path)
    kinds: set[torch.dtype] = set()
    Checkpoint.open(tmp_path).cut().map(lambda tensor: kinds.add(tensor.dtype) or tensor)  # type: ignore[func-returns-value]
    assert kinds == {torch.bfloat16}


def test_tied_embeddings_stay_tied_when_the_weights_are_changed(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama-grouped-tied")
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118 (no mapping)
    network = Checkpoint.open(tmp_path).cut().map(lambda tensor: tensor.clone())
    assert network.head is network.embeddings


def _as_old_llama3(config: dict[str, object]) -> None:
    rope = dict(config.pop("rope_parameters"))  # type: ignore[call-overload]
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope


def _as_old_linear(config: dict[str, object]) -> None:
    config.pop("rope_parameters")
    config["rope_scaling"] = {"type": "linear", "factor": 2.0}


def _as_old_llama1(config: dict[str, object]) -> None:
    for key in ("rope_parameters", "num_key_value_heads", "head_dim", "attention_bias", "mlp_bias", "dtype"):
        config.pop(key, None)
    config["torch_dtype"] = "float16"


@pytest.mark.parametrize(
    ("family", "change"),
    [("llama3-rope", _as_old_llama3), ("llama", _as_old_linear), ("llama", _as_old_llama1)],
)
def test_a_config_of_an_older_transformers_means_what_it_means_to_transformers(
    tmp_path: Path, family: str, change: Callable[[dict[str, object]], None]
) -> None:
    write_checkpoint(tmp_path, family)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    change(config)
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert_same(packed_logits(Checkpoint.open(tmp_path).cut()), logits_one_by_one(model, SEQUENCES))


def test_an_architecture_that_the_checkpoint_does_not_hold_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    checkpoint = Checkpoint.open(tmp_path)
    with pytest.raises(UserError, match=r"layers: 5 is asked for, but the model has layers 0 to 4"):
        checkpoint.cut(Architecture(layers=(0, LAYERS), mlp_widths=(1, 1)))
    with pytest.raises(UserError, match=r"mlp_widths: 25 is above the model's 24 neurons"):
        checkpoint.cut(Architecture(layers=(0,), mlp_widths=(WIDTH + 1,)))
