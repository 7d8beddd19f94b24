"""The order in which a super-network gives up its neurons and layers."""

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from shared.architecture import Architecture
from shared.supernet.calibration_row import CalibrationRow
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from shared.supernet.order import Importance, drop_order, measure_importance, order_neurons
from shared.supernet.packing import Packed, pack
from shared.supernet.tree import Tree
from tests.support.checkpoints import FAMILIES, LAYERS, WIDTH, random_sequences, write_checkpoint
from tests.support.networks import uniform_network


def text(seed: int = 0) -> list[CalibrationRow]:
    return [row_of(random_sequences(30, 20, 25, seed=seed + part)) for part in range(3)]


def row_of(sequences: list[list[int]], places: Tensor | None = None) -> CalibrationRow:
    return CalibrationRow(pack([Tree.plain(tokens) for tokens in sequences]), places)


def logits(network: Decoder, packed: Packed) -> Tensor:
    return network.logits(network.hidden(packed))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_ordered_whole_network_has_the_same_logits(family: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, family)
    checkpoint = Checkpoint.open(tmp_path)
    ordered = order_neurons(checkpoint.weights, checkpoint.network, measure_importance(checkpoint.cut(), text()))
    assert ordered.keys() == checkpoint.weights.keys()
    moved = [name for name in ordered if not torch.equal(ordered[name], checkpoint.weights[name])]
    biases = ["gate_proj.bias", "up_proj.bias"] if family in ("llama-biases", "smollm3-window") else []
    expected = ["gate_proj.weight", "up_proj.weight", "down_proj.weight", *biases]
    assert sorted(moved) == sorted(f"model.layers.{layer}.mlp.{name}" for layer in range(LAYERS) for name in expected)
    for packed in (row.packed for row in text(seed=50)):
        before, after = logits(checkpoint.cut(), packed), logits(checkpoint.cut(weights=ordered), packed)
        torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_importance_puts_the_best_neurons_first(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    checkpoint = Checkpoint.open(tmp_path)
    ordered = order_neurons(checkpoint.weights, checkpoint.network, measure_importance(checkpoint.cut(), text()))
    for neurons in measure_importance(checkpoint.cut(weights=ordered), text()).neurons:
        assert bool((neurons[:-1] >= neurons[1:] * 0.9999).all())


def test_a_neuron_that_does_nothing_comes_last_and_a_strong_one_first(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    checkpoint = Checkpoint.open(tmp_path)
    weights = {name: tensor.clone() for name, tensor in checkpoint.weights.items()}
    for layer in range(LAYERS):
        weights[f"model.layers.{layer}.mlp.down_proj.weight"][:, 3] = 0
        weights[f"model.layers.{layer}.mlp.up_proj.weight"][7] *= 50
    importance = measure_importance(checkpoint.cut(weights=weights), text())
    for neurons in importance.neurons:
        order = torch.argsort(neurons, descending=True).tolist()
        assert order[0] == 7
        assert order[-1] == 3 and neurons[3] == 0


def test_importance_is_the_activations_root_mean_square_times_the_norm_of_the_column(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path, "llama-biases")
    found = measure_importance(Checkpoint.open(tmp_path).cut(), text())
    activations: list[list[Tensor]] = [[] for _ in range(LAYERS)]
    states: list[tuple[Tensor, ...]] = []
    for layer, kept in zip(model.model.layers, activations, strict=True):
        layer.mlp.down_proj.register_forward_pre_hook(lambda _, inputs, kept=kept: kept.append(inputs[0].flatten(0, 1)))
    with torch.inference_mode():
        for part in range(3):
            for tokens in random_sequences(30, 20, 25, seed=part):
                out = model.model(torch.tensor([tokens]), output_hidden_states=True)
                states.append(out.hidden_states)
    for index, layer in enumerate(model.model.layers):
        seen = torch.cat(activations[index])
        expected = seen.square().mean(0).sqrt() * layer.mlp.down_proj.weight.norm(dim=0)
        torch.testing.assert_close(found.neurons[index], expected.detach(), rtol=1e-4, atol=1e-6)
        if index < LAYERS - 1:  # transformers puts the last layer's output through the last norm
            pairs = [(one[index][0], one[index + 1][0]) for one in states]
            similarity = torch.cat([torch.cosine_similarity(before, after, dim=-1) for before, after in pairs]).mean()
            assert found.layers[index] == pytest.approx(1 - float(similarity), abs=1e-5)


def test_importance_is_that_of_the_tokens_that_count_and_all_others_are_read(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    network, sequences, prompt = Checkpoint.open(tmp_path).cut(), random_sequences(30, 20, 25), 7
    whole = row_of(sequences)
    places = [start + index for start in whole.packed.starts for index in range(prompt)]
    others = sorted(set(range(len(whole))).difference(places))
    prompts, responses = (CalibrationRow(whole.packed, torch.tensor(some)) for some in (places, others))
    of_all, of_prompts, of_responses = (measure_importance(network, [row]) for row in (whole, prompts, responses))
    alone = measure_importance(network, [row_of([tokens[:prompt] for tokens in sequences])])
    shares = len(prompts) / len(whole), len(responses) / len(whole)
    for layer in range(LAYERS):
        torch.testing.assert_close(of_prompts.neurons[layer], alone.neurons[layer], atol=1e-6, rtol=1e-4)
        # What came before a token is seen in it, so that both parts add up to the whole.
        squares = of_prompts.neurons[layer].square() * shares[0] + of_responses.neurons[layer].square() * shares[1]
        torch.testing.assert_close(of_all.neurons[layer], squares.sqrt(), atol=1e-6, rtol=1e-4)
        assert not torch.allclose(of_responses.neurons[layer], of_all.neurons[layer], rtol=1e-3)
        parts = of_prompts.layers[layer] * shares[0] + of_responses.layers[layer] * shares[1]
        assert of_all.layers[layer] == pytest.approx(parts, abs=1e-5)
    assert of_prompts.layers == pytest.approx(alone.layers, abs=1e-5)


def test_a_layer_that_changes_nothing_has_no_influence_and_leaves_first(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    checkpoint = Checkpoint.open(tmp_path)
    idle = re.compile(r"model\.layers\.2\.(self_attn\.o_proj|mlp\.down_proj)\.weight")
    weights = {
        name: torch.zeros_like(tensor) if idle.fullmatch(name) else tensor
        for name, tensor in checkpoint.weights.items()
    }
    influence = measure_importance(checkpoint.cut(weights=weights), text()).layers
    assert influence[2] == pytest.approx(0, abs=1e-6)
    assert min(value for layer, value in enumerate(influence) if layer != 2) > 0.01
    order = drop_order(LAYERS, influence)
    assert order[0] == 2
    without = Architecture(layers=(0, 1, 3, 4), mlp_widths=(WIDTH,) * 4)
    packed = text()[0].packed
    torch.testing.assert_close(
        logits(checkpoint.cut(without, weights), packed), logits(checkpoint.cut(weights=weights), packed)
    )


def test_equally_important_neurons_keep_their_places() -> None:
    weights = {
        "model.layers.0.mlp.gate_proj.weight": torch.arange(4.0).unsqueeze(1),
        "model.layers.0.mlp.up_proj.weight": torch.arange(4.0).unsqueeze(1),
        "model.layers.0.mlp.down_proj.weight": torch.arange(4.0).unsqueeze(0),
    }
    ordered = order_neurons(
        weights, uniform_network(1, 4, hidden=8), Importance((torch.tensor([1.0, 2.0, 1.0, 2.0]),), (0.0,))
    )
    assert ordered["model.layers.0.mlp.gate_proj.weight"].flatten().tolist() == [1, 3, 0, 2]
    assert ordered["model.layers.0.mlp.up_proj.weight"].flatten().tolist() == [1, 3, 0, 2]
    assert ordered["model.layers.0.mlp.down_proj.weight"].flatten().tolist() == [1, 3, 0, 2]


@given(st.lists(st.floats(0, 2), min_size=1, max_size=12))
def test_by_importance_neither_the_first_nor_the_last_layer_ever_leaves(influence: list[float]) -> None:
    order = drop_order(len(influence), tuple(influence))
    assert sorted(order) == list(range(1, len(influence) - 1))
    assert [influence[layer] for layer in order] == sorted(influence[1:-1])


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_by_the_rule_first_the_last_layer_leaves_first_and_the_first_never(layers: int) -> None:
    assert drop_order(layers, None) == tuple(range(layers - 1, 0, -1))
