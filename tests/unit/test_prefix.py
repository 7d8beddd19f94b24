"""What many sequences begin with is read once, and they go on as if each had read it itself."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from shared.architecture import Architecture
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder, Layer
from shared.supernet.packing import pack
from shared.supernet.prefix import Prefix
from shared.supernet.tree import Tree
from tests.support.checkpoints import FAMILIES, WIDTH, WINDOW, random_sequences, write_checkpoint
from tests.support.passes import hidden_together
from tests.support.trees import projections

SUBNET = Architecture(layers=(0, 1, 3, 4), mlp_widths=(WIDTH, 7, 12, 1))
PREFIXES = random_sequences(9, WINDOW - 2, 1)
TOLERANCE = 5e-5


@pytest.fixture(scope="module", params=FAMILIES)
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    directory = tmp_path_factory.mktemp(request.param)
    write_checkpoint(directory, request.param)
    return Checkpoint.open(directory).cut(SUBNET)


def as_it_is(layer: Layer) -> Layer:
    return layer


def endings(seed: int) -> list[list[list[int]]]:
    """Three groups of sequences; those of a group are to be a tree."""
    trunk, *others = random_sequences(6, 4, 9, 1, 7, seed=seed)
    return [[trunk + others[0], trunk + others[1], trunk[:3] + others[2]], [others[3]], [others[2], others[0]]]


@torch.inference_mode()
def alone(network: Decoder, tokens: list[int]) -> Tensor:
    return network.hidden(pack([Tree.plain(tokens)]))


@torch.inference_mode()
def test_sequences_after_a_prefix_are_read_as_if_written_out_with_it(network: Decoder) -> None:
    reads, expected = [], []
    for seed, prefix in enumerate(PREFIXES):
        read = Prefix.of(prefix)
        reads.append(read)
        expected.append([(list(range(len(prefix))), alone(network, prefix))])
        groups = endings(seed)
        merged = [Tree.merged(group, len(prefix)) for group in groups]
        for some in ([0, 1], [2]):
            row = pack([merged[index][0] for index in some])
            reads.append(row.after(read))
            found = []
            for start, index in zip(row.starts, some, strict=True):
                for path, ending in zip(merged[index][1], groups[index], strict=True):
                    states = alone(network, prefix + ending)[len(prefix) :]
                    found.append(([start + place for place in path], states))
            expected.append(found)
    together = hidden_together(network, reads, as_it_is)
    for read, states, answers in zip(reads, together, expected, strict=True):
        assert states.shape == (len(read.tokens), network.shape.hidden)
        for path, written_out in answers:
            torch.testing.assert_close(states[path], written_out, atol=TOLERANCE, rtol=TOLERANCE)


@torch.inference_mode()
def test_what_follows_a_prefix_depends_on_it(network: Decoder) -> None:
    tree = Tree.merged([[1, 2]], 9)[0]
    found = []
    for prefix in random_sequences(9, 9):
        read = Prefix.of(prefix)
        found.append(hidden_together(network, [read, pack([tree]).after(read)], as_it_is)[1])
    assert (found[0] - found[1]).abs().max() > 1e-3


@torch.inference_mode()
def test_rows_that_go_through_together_have_the_outcomes_of_one_by_one(network: Decoder) -> None:
    rows = [pack([Tree.plain(tokens)]) for tokens in random_sequences(4, 12, 1)]
    seen: list[Layer] = []

    def prepare(layer: Layer) -> Layer:
        seen.append(layer)
        return layer

    together = hidden_together(network, iter(rows), prepare)
    assert all(one is other for one, other in zip(seen, network.layers, strict=True))
    for row, states in zip(rows, together, strict=True):
        torch.testing.assert_close(states, network.hidden(row), atol=TOLERANCE, rtol=TOLERANCE)


@torch.inference_mode()
def test_a_row_is_refused_without_the_prefix_that_it_continues(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    network = Checkpoint.open(tmp_path).cut(SUBNET)
    prefix = Prefix.of(PREFIXES[0])
    row = pack([Tree.merged([[1, 2]], len(PREFIXES[0]))[0]]).after(prefix)
    with pytest.raises(RuntimeError, match="prefix has not been read in layer 0: read it together"):
        network.hidden(row)
    network.hidden(prefix)
    with pytest.raises(RuntimeError, match="prefix has not been read in layer 0"):
        network.hidden(row)
    with pytest.raises(RuntimeError, match="prefix has not been read in layer 0"):
        hidden_together(network, [row, prefix], as_it_is)


def test_a_prefix_leaves_the_keys_and_values_of_the_layer_read_last() -> None:
    prefix = Prefix.of([1, 2, 3])
    for layer in (0, 1):
        queries, keys, values = projections(3, 2, seed=layer)
        prefix.attend(layer, queries, keys, values, None)
        left = prefix.keys_values(layer)
        assert torch.equal(left.keys, keys.permute(1, 2, 0)) and torch.equal(left.values, values.transpose(0, 1))
    with pytest.raises(RuntimeError, match="layer 0"):
        prefix.keys_values(0)
