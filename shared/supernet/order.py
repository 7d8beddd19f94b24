"""The importance of neurons and layers, which decides the order in which a super-network drops them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from shared.network.shape import NetworkShape
from shared.network.tensors import tensors
from shared.supernet.calibration_row import CalibrationRow
from shared.supernet.decoder import Decoder


@dataclass(frozen=True)
class Importance:
    """`neurons[layer]` (width,): each MLP neuron's importance, (0,) where there is no MLP; `layers`: each layer's
    influence, 0 for one that changes nothing."""

    neurons: tuple[Tensor, ...]
    layers: tuple[float, ...]


@torch.inference_mode()
def measure_importance(network: Decoder, text: Iterable[CalibrationRow]) -> Importance:
    """Run calibration text through the whole network, and look at the tokens that count.

    A neuron's importance is the root mean square of its activation times the norm of its column of the down projection
    (Wanda, arXiv 2306.11695, summed over the column). A layer's influence is one minus the mean cosine similarity of
    its input and its output (ShortGPT, arXiv 2403.03853, eq. 1).
    """
    widths = network.shape.mlp_widths
    energies = [torch.zeros(width, device=network.embeddings.device) for width in widths]
    similarities = torch.zeros(len(widths), dtype=torch.float64, device=network.embeddings.device)
    tokens = 0

    def observe(row: CalibrationRow, index: int, before: Tensor, neurons: Tensor | None, after: Tensor) -> None:
        if neurons is not None:
            energies[index] += row.counted(neurons).float().square().sum(0)
        if network.shape.layers[index].keeps_state:
            one, other = row.counted(before).float(), row.counted(after).float()
            similarities[index] += torch.cosine_similarity(one, other, dim=-1).sum()

    for row in text:
        network.hidden(row.packed, partial(observe, row))
        tokens += len(row)
    columns = [1.0 if layer.mlp is None else layer.mlp.down.weight.float().norm(dim=0) for layer in network.layers]
    return Importance(
        neurons=tuple((energy / tokens).sqrt() * column for energy, column in zip(energies, columns, strict=True)),
        layers=tuple(1 - similarity / tokens for similarity in similarities.tolist()),
    )


def order_neurons(weights: Mapping[str, Tensor], network: NetworkShape, importance: Importance) -> dict[str, Tensor]:
    """The same network with every MLP's neurons sorted, the most important first.

    Rows of gate and up and columns of down move together, so the whole network computes the same function.
    """
    orders = [torch.argsort(neurons, descending=True, stable=True) for neurons in importance.neurons]
    ordered = dict(weights)
    for spec in tensors(network):
        if spec.layer is not None and spec.neurons is not None:
            tensor = weights[spec.name]
            order = orders[spec.layer].to(tensor.device)  # mapped weights, and importance that a GPU has found
            ordered[spec.name] = tensor[order] if spec.neurons == "rows" else tensor[:, order].contiguous()
    return ordered


def drop_order(layers: int, influence: tuple[float, ...] | None) -> tuple[int, ...]:
    """Layers in the order in which they are dropped: by influence, never the first or last one; without influence, last
    first."""
    if influence is None:
        return tuple(range(layers - 1, 0, -1))
    return tuple(sorted(range(1, layers - 1), key=lambda layer: (influence[layer], layer)))
