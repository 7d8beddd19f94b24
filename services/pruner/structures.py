"""The coupled structures of a layer (LLM-Pruner, arXiv 2305.11627): what can only be removed together.

An MLP neuron is a row of gate and of up and a column of down. A key/value group is a key and value head with the query
heads that share it: rows of key, value and query, columns of output. A layer's other tensors belong to none.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from shared.network.shape import LayerShape, NetworkShape
from shared.network.tensors import TensorSpec, layer_tensors

Kind = Literal["neurons", "groups"]
KINDS: tuple[Kind, ...] = ("neurons", "groups")
AXES: Mapping[str, int] = {"attention.query": 0, "attention.key": 0, "attention.value": 0, "attention.output": 1}
"""Along which dimension the key/value groups lie."""


@dataclass(frozen=True)
class Scores:
    """A number for each coupled structure, the higher the more important.

    `neurons[layer]` (width,) and `groups[layer]` (key/value heads,); (0,) where all of a layer's are kept.
    """

    neurons: tuple[Tensor, ...]
    groups: tuple[Tensor, ...]

    @classmethod
    def of_layers(cls, layers: Iterable[Mapping[Kind, Tensor]]) -> "Scores":
        """The scores of each layer's structures of each kind."""
        listed = list(layers)
        return cls(*(tuple(one[kind] for one in listed) for kind in KINDS))


def count(layer: LayerShape, kind: Kind) -> int:
    """How many structures of a kind a layer has."""
    if kind == "neurons":
        return layer.mlp_width
    return 0 if layer.attention is None else layer.attention.kv_heads


def with_counts(layer: LayerShape, neurons: int, groups: int) -> LayerShape:
    """The layer with fewer structures, one at least of each kind that it has."""
    if layer.mlp is not None:
        layer = replace(layer, mlp=replace(layer.mlp, width=neurons))
    if layer.attention is not None:
        share = layer.attention.heads // layer.attention.kv_heads
        layer = replace(layer, attention=replace(layer.attention, heads=share * groups, kv_heads=groups))
    return layer


def where(spec: TensorSpec) -> tuple[Kind, int] | None:
    """Structures of which kind a tensor is made of, and along which dimension they lie; None for no structures."""
    if spec.neurons is not None:
        return "neurons", 0 if spec.neurons == "rows" else 1
    if spec.part in AXES and not (spec.bias and AXES[spec.part]):
        return "groups", AXES[spec.part]
    return None


def select(spec: TensorSpec, tensor: Tensor, layer: LayerShape, kept: Mapping[Kind, Tensor]) -> Tensor:
    """What stays of a tensor of `layer` if of each kind just the structures at the places `kept` stay."""
    found = where(spec)
    if found is None or len(kept[found[0]]) == count(layer, found[0]):
        return tensor
    kind, axis = found
    vectors = tensor.shape[axis] // count(layer, kind)
    places = kept[kind][:, None] * vectors + torch.arange(vectors)
    return tensor.index_select(axis, places.flatten())


def per_number(
    network: NetworkShape, index: int, of: Callable[[TensorSpec], Tensor], measure: Callable[[Tensor], Tensor]
) -> dict[Kind, Tensor]:
    """A measure of the structures of a layer, (structures,) of each kind: summed over each one's vectors (rows or
    columns), divided by how many numbers it holds, so that small and large structures can be compared.

    `of` gives the numbers that belong to a tensor of the layer; `measure` makes of such vectors (vectors, length) one
    number each, (vectors,). A bias is made of vectors of length 1.
    """
    layer = network.layers[index]
    sums, held = ({kind: torch.zeros(count(layer, kind)) for kind in KINDS} for _ in range(2))
    for spec in layer_tensors(network.family, layer, index):
        found = where(spec)
        if found is not None:
            kind, axis = found
            numbers = of(spec).float()
            vectors = numbers.unsqueeze(1) if spec.bias else numbers.movedim(axis, 0)
            sums[kind] += measure(vectors).cpu().view(count(layer, kind), -1).sum(1)
            held[kind] += vectors.numel() / count(layer, kind)
    return {kind: sums[kind] / held[kind] for kind in KINDS}
