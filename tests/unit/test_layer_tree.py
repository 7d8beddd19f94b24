"""Networks of a tree have the very states of each alone, and what they share is computed once."""

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shared.architecture import Architecture, Quantization
from shared.supernet.blocked import blocked
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder, Layer, Mlp
from shared.supernet.decoder import Sequences as Batch
from shared.supernet.layer_tree import LayerTree, hidden_in_each
from shared.supernet.packing import pack
from shared.supernet.prefix import Prefix
from shared.supernet.tree import Tree
from tests.support.checkpoints import LAYERS, WIDTH, random_sequences, write_checkpoint
from tests.support.passes import at_all_places, hidden_together

LAYER_WIDTHS = (0, 7, WIDTH)


@pytest.fixture(scope="module", params=["llama-grouped-tied", "qwen2-window", "smollm3-window", "gemma3"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    directory: Path = tmp_path_factory.mktemp(request.param)
    write_checkpoint(directory, request.param)
    return Checkpoint.open(directory)


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    """Any network, most of them with the first layers of others."""
    kept = [index for index in range(LAYERS) if index == 0 or draw(st.integers(0, 3))]
    widths = [LAYER_WIDTHS[draw(st.integers(0, 3)) % 3] for _ in kept]
    quantization: Quantization = "none" if draw(st.integers(0, 2)) else "int8"
    return Architecture(layers=tuple(kept), mlp_widths=tuple(widths), quantization=quantization)


def batches() -> list[Batch]:
    """A tree, a row of single sequences, and what follows a prefix."""
    trunk, branch, other, beginning = random_sequences(7, 3, 4, 19)
    prefix = Prefix.of(beginning)
    after = pack([Tree.merged([branch, other], len(beginning))[0]]).after(prefix)
    tree = pack([Tree.merged([trunk + branch, trunk + other])[0]])
    return [tree, pack([Tree.plain(branch), Tree.plain(trunk)]), prefix, after]


def steps(network: Architecture) -> list[tuple[Any, ...]]:
    """What is computed for a network, layer by layer: each with all that it depends on, and whether it is the last."""
    layers = list(zip(network.layers, network.mlp_widths, strict=True))
    return [(network.quantization, depth == len(layers) - 1, *layers[: depth + 1]) for depth in range(len(layers))]


def at_some_places(given_batches: Sequence[Batch]) -> list[tuple[Batch, Tensor]]:
    """Of all batches but the first, of which none are wanted, some states; not in their order."""
    return [
        (batch, torch.arange(len(batch.tokens) - 1, -1, -2)[: 3 * number]) for number, batch in enumerate(given_batches)
    ]


@settings(max_examples=12)
@given(st.lists(architectures(), min_size=1, max_size=7), st.sampled_from([torch.float32, torch.bfloat16]))
@torch.inference_mode()
def test_networks_of_a_tree_have_the_very_states_of_each_alone_and_no_layer_is_computed_twice(
    checkpoint: Checkpoint, group: list[Architecture], dtype: torch.dtype
) -> None:
    weights = {name: tensor.to(dtype) for name, tensor in checkpoint.weights.items()}
    prepared: list[Layer] = []

    def prepare(layer: Layer) -> Layer:
        prepared.append(layer)
        return blocked(layer)

    networks = checkpoint.cut_together(group, weights)
    found: dict[tuple[int, int], Tensor] = {}
    for network, batch, states in hidden_in_each(networks, at_some_places(batches()), prepare):
        assert (network, batch) not in found
        found[network, batch] = states
    for number, one in enumerate(group):
        for _, batch, states in hidden_in_each([checkpoint.cut(one, weights)], at_some_places(batches()), blocked):
            assert torch.equal(found[number, batch], states)
    different = {step for one in group for step in steps(one)}
    assert len(prepared) == LayerTree.of(networks).layers == len(different)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("quantization", ["none", "int8"])
@torch.inference_mode()
def test_states_at_some_places_are_those_among_all(
    checkpoint: Checkpoint, quantization: Quantization, dtype: torch.dtype
) -> None:
    weights = {name: tensor.to(dtype) for name, tensor in checkpoint.weights.items()}
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    for last in LAYER_WIDTHS:
        architecture = Architecture(layers=(0, 2), mlp_widths=(7, last), quantization=quantization)
        network = checkpoint.cut(architecture, weights)
        everywhere = hidden_together(network, batches(), blocked)
        asked = at_some_places(batches())
        for _, number, states in hidden_in_each([network], asked, blocked):
            expected = everywhere[number][asked[number][1]]
            assert states.shape == expected.shape
            if quantization == "int8":  # of which a rounding more or less would be another answer
                assert torch.equal(states, expected)
            torch.testing.assert_close(states, expected, atol=tolerance, rtol=tolerance)


@torch.inference_mode()
def test_the_last_layer_reads_only_the_places_that_are_wanted(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, read = checkpoint.cut(), list[int]()
    neurons = Mlp.neurons

    def noted(mlp: Mlp, inputs: Tensor) -> Tensor:
        read.append(len(inputs))
        return neurons(mlp, inputs)

    monkeypatch.setattr(Mlp, "neurons", noted)
    asked = at_some_places(batches())
    list(hidden_in_each([network], asked, lambda layer: layer))
    assert read[-len(asked) :] == [len(places) for _, places in asked]
    assert set(zip(*[iter(read[: -len(asked)])] * len(asked), strict=True)) == {
        tuple(len(batch.tokens) for batch, _ in asked)
    }


@given(st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=40))
def test_few_states_are_kept_where_networks_part(paths: list[list[int]]) -> None:
    tree = LayerTree.of(networks_of(paths))
    assert 2**tree.held <= len(paths)
    assert sorted(number for number, _ in ends(tree)) == list(range(len(paths)))
    assert all(found == paths[number] for number, found in ends(tree))


LAYER_OBJECTS = [Layer(None, None) for _ in range(3)]


def networks_of(paths: Sequence[Sequence[int]]) -> list[Decoder]:
    """Networks of nothing but some layers."""
    nothing: Any = None
    return [
        Decoder(nothing, nothing, nothing, tuple(LAYER_OBJECTS[index] for index in path), nothing, nothing, {})
        for path in paths
    ]


def ends(tree: LayerTree, path: tuple[int, ...] = ()) -> list[tuple[int, list[int]]]:
    """Where each network ends, and which layers lead there."""
    found = [(number, list(path)) for number in tree.ends]
    for layer, below in tree.branches:
        found += ends(below, (*path, next(index for index, one in enumerate(LAYER_OBJECTS) if one is layer)))
    return found


@torch.inference_mode()
def test_as_many_states_are_alive_as_the_tree_says(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    group = [
        Architecture(layers=tuple(range(LAYERS)), mlp_widths=(WIDTH, first, second, third, 7))
        for first in LAYER_WIDTHS
        for second in LAYER_WIDTHS[:2]
        for third in LAYER_WIDTHS[1:]
    ]
    networks, given_batches = checkpoint.cut_together(group), batches()
    made: list[weakref.ref[Tensor]] = []
    most, through = 0, Decoder.through

    def noted(*arguments: Any) -> tuple[Tensor, Tensor | None]:
        state, neurons = through(*arguments)
        made.append(weakref.ref(state))
        return state, neurons

    def prepare(layer: Layer) -> Layer:
        nonlocal most
        most = max(most, sum(state() is not None for state in made))
        return layer

    monkeypatch.setattr(Decoder, "through", noted)
    for _ in hidden_in_each(networks, at_all_places(given_batches), prepare):
        pass
    held = LayerTree.of(networks).held
    assert held >= 2 and 2**held <= len(group) == 12
    assert most == (held + 1) * len(given_batches)


def test_a_layer_is_shared_by_networks_in_which_it_differs_in_nothing(checkpoint: Checkpoint) -> None:
    deep = Architecture(layers=(0, 1, 2), mlp_widths=(WIDTH, 7, WIDTH))
    shallow = Architecture(layers=(0, 1), mlp_widths=(WIDTH, 7), without_attention=(1,))
    one, other = checkpoint.cut_together([deep, shallow])
    assert one.layers[0] is other.layers[0]
    assert one.layers[1].attention is not None and other.layers[1].attention is None


def test_networks_of_two_checkpoints_are_refused(checkpoint: Checkpoint) -> None:
    others = {name: tensor.clone() for name, tensor in checkpoint.weights.items()}
    with pytest.raises(ValueError, match="cut from one checkpoint"):
        hidden_in_each([checkpoint.cut(), checkpoint.cut(weights=others)], at_all_places(batches()), blocked)
