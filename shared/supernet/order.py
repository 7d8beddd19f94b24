"""Which neurons and which layers matter: the order in which a super-network gives them up."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.supernet.decoder import Decoder
from shared.supernet.packing import Packed


@dataclass(frozen=True)
class Importance:
    """`neurons[layer]` (width,): each MLP neuron's importance; `layers`: each layer's influence, 0 for one that
    changes nothing."""

    neurons: tuple[Tensor, ...]
    layers: tuple[float, ...]


@torch.inference_mode()
def measure_importance(network: Decoder, text: Iterable[Packed]) -> Importance:
    """Run calibration text through the whole network.

    A neuron's importance is the root mean square of its activation times the norm of its column of the down projection
    (Wanda, arXiv 2306.11695, summed over the column). A layer's influence is one minus the mean cosine similarity of
    its input and its output (ShortGPT, arXiv 2403.03853, eq. 1).
    """
    depth = len(network.layers)
    energies = [torch.zeros(layer.mlp_width, device=layer.gate.weight.device) for layer in network.layers]
    similarities = [0.0] * depth
    tokens = 0

    def observe(index: int, before: Tensor, neurons: Tensor, after: Tensor) -> None:
        energies[index] += neurons.float().square().sum(0)
        similarities[index] += float(torch.cosine_similarity(before.float(), after.float(), dim=-1).sum())

    for packed in text:
        network.hidden(packed, observe)
        tokens += len(packed.tokens)
    columns = [layer.down.weight.float().norm(dim=0) for layer in network.layers]
    return Importance(
        neurons=tuple((energy / tokens).sqrt() * column for energy, column in zip(energies, columns, strict=True)),
        layers=tuple(1 - similarity / tokens for similarity in similarities),
    )


def order_neurons(weights: Mapping[str, Tensor], importance: Importance) -> dict[str, Tensor]:
    """The same network with every MLP's neurons sorted, the most important first.

    Rows of gate and up and columns of down move together, so the whole network computes the same function.
    """
    ordered = dict(weights)
    for layer, neurons in enumerate(importance.neurons):
        order = torch.argsort(neurons, descending=True, stable=True)
        for name in ("gate_proj.weight", "gate_proj.bias", "up_proj.weight", "up_proj.bias"):
            key = f"model.layers.{layer}.mlp.{name}"
            if key in weights:
                ordered[key] = weights[key][order]
        down = f"model.layers.{layer}.mlp.down_proj.weight"
        ordered[down] = weights[down][:, order].contiguous()
    return ordered


def drop_order(layers: int, influence: tuple[float, ...] | None) -> tuple[int, ...]:
    """Layers in the order in which they leave: by influence, never the first or last one; without influence, last
    first."""
    if influence is None:
        return tuple(range(layers - 1, 0, -1))
    return tuple(sorted(range(1, layers - 1), key=lambda layer: (influence[layer], layer)))
