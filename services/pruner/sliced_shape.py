"""What SliceGPT (arXiv 2401.15024) makes of a network's shape, and the slicing that reaches a size.

All states shrink to the same hidden size. Each block's shortcut gets a matrix, as it leads from one basis to another;
embeddings and head lie in different bases, so they are no longer tied. Both cost parameters: little slicing makes a
network larger, not smaller.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace

from shared.errors import UserError
from shared.network.families import FAMILIES
from shared.network.shape import LayerShape, NetworkShape


def sliced_shape(network: NetworkShape, hidden: int) -> NetworkShape:
    """The shape of a network of which `hidden` numbers of each state are kept.

    Raises UserError for a network that can't be sliced, and for a size that it hasn't.
    """
    _require_sliceable(network)
    if not 1 <= hidden <= network.hidden:
        raise UserError(f"slicegpt: a hidden size of {hidden} is impossible, it must be from 1 to {network.hidden}")
    layers = tuple(_sliced(layer, hidden) for layer in network.layers)
    return replace(network, layers=layers, tied_embeddings=False)


def hidden_for(network: NetworkShape, most: int, size: Callable[[NetworkShape], int], step: int) -> int:
    """The hidden size, a multiple of `step`, with which the sliced network is the largest of at most the size `most`.

    `size` says how large a network is, in whatever unit `most` has. Raises UserError where the network can't be sliced,
    where `most` is no smaller than the network already is, and where it is below what slicing reaches.
    """
    _require_sliceable(network)
    if step < 1:
        raise ValueError(f"a step of {step}")
    if most >= (own := size(network)):
        raise UserError(
            f"slicegpt: a target of {most:,} isn't below the network's own {own:,}: slicing that little makes it grow, "
            "as its shortcuts get matrices; give a smaller target"
        )
    candidates = range(step, network.hidden, step)
    if not candidates:
        raise UserError(f"slicegpt: no hidden size below the network's {network.hidden} is a multiple of {step}")
    fitting = bisect_right(candidates, most, key=lambda hidden: size(sliced_shape(network, hidden)))
    if fitting == 0:
        least = size(sliced_shape(network, step))
        raise UserError(
            f"slicegpt: a target of {most:,} can't be reached: with the smallest hidden size, {step}, the network has "
            f"{least:,}; give a larger target"
        )
    return candidates[fitting - 1]


def _require_sliceable(network: NetworkShape) -> None:
    if not FAMILIES[network.family].turnable:
        known = ", ".join(name for name, family in FAMILIES.items() if family.turnable)
        raise UserError(f"slicegpt: networks of the family {network.family} can't be sliced; use one of {known}")
    for index, layer in enumerate(network.layers):
        if not layer.keeps_state:
            raise UserError(
                f"slicegpt: layer {index} is sliced already, with a matrix on its shortcut; "
                "give the network that it was made of"
            )


def _sliced(layer: LayerShape, hidden: int) -> LayerShape:
    return replace(
        layer,
        hidden=hidden,
        attention_shortcut=None if layer.attention is None else hidden,
        mlp_shortcut=None if layer.mlp is None else hidden,
    )
