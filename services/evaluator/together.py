"""Which networks are scored together: as many as the memory is for that a batch's size is chosen by."""

from collections.abc import Iterator, Sequence

from shared.architecture import Architecture
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from shared.supernet.layer_tree import LayerTree

MOST_HELD = 2
"""States of a wave that are kept where networks part (`LayerTree.held`): neighbours seldom need more, and networks that
do are scored in several parts."""


def in_parts(checkpoint: Checkpoint, architectures: Sequence[Architecture]) -> Iterator[list[Architecture]]:
    """Sub-networks, in their order, in parts that are scored together.

    Of INT8 networks a part has, each once, no more layers than there is memory for those of the whole super-network.
    """
    networks = checkpoint.cut_together([architecture.quantized("none") for architecture in architectures])
    most = _numbers([checkpoint.cut()])
    part: list[Architecture] = []
    its: list[Decoder] = []
    for architecture, network in zip(architectures, networks, strict=True):
        more = [*its, network]
        crowded = architecture.quantization != "none" and _numbers(more) > most
        if part and (crowded or LayerTree.of(more).held > MOST_HELD):
            yield part
            part, more = [], [network]
        part.append(architecture)
        its = more
    yield part


def _numbers(networks: Sequence[Decoder]) -> int:
    """Weights of all layers that are quantised, each layer once."""
    layers = {id(layer): layer for network in networks for layer in network.layers}
    return sum(one.weight.numel() for layer in layers.values() for one in layer.projections)
