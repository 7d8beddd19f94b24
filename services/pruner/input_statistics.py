"""What the last linear layers of attention and MLP are multiplied with: means and variances over calibration text."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from services.pruner.calibration import Calibration
from services.pruner.structures import Kind
from shared.supernet.decoder import Decoder, Layer, Projection


class InputStatistics:
    """Of the inputs of one linear layer, number by number, (inputs,) in float64."""

    def __init__(self, inputs: int, device: torch.device) -> None:
        self.tokens = 0
        self._sum = torch.zeros(inputs, dtype=torch.float64, device=device)
        self._squares = torch.zeros_like(self._sum)

    def add(self, inputs: Tensor) -> None:
        """Count inputs (T, inputs)."""
        exact = inputs.double()
        self.tokens += len(exact)
        self._sum += exact.sum(0)
        self._squares += exact.square().sum(0)

    @property
    def mean(self) -> Tensor:
        """Their mean."""
        return (self._sum / self.tokens).cpu()

    @property
    def mean_square(self) -> Tensor:
        """The mean of their squares."""
        return (self._squares / self.tokens).cpu()

    @property
    def variance(self) -> Tensor:
        """Their sample variance."""
        return (self.mean_square - self.mean.square()).clamp(min=0) * (self.tokens / max(self.tokens - 1, 1))


@dataclass(frozen=True)
class LayerStatistics:
    """Of a layer's last linear layers: that of attention, (heads * head_dim,), and that of the MLP, (width,).

    None where there is no such block.
    """

    attention: InputStatistics | None
    mlp: InputStatistics | None

    def of(self, kind: Kind) -> InputStatistics | None:
        """Of the linear layer that the structures of a kind put their outputs into."""
        return self.mlp if kind == "neurons" else self.attention


@torch.inference_mode()
def measure_inputs(network: Decoder, text: Calibration) -> list[LayerStatistics]:
    """Run calibration text through a whole network."""
    device = network.embeddings.device
    statistics = [
        LayerStatistics(
            None if layer.attention is None else InputStatistics(layer.attention.queries, device),
            None if layer.mlp is None else InputStatistics(layer.mlp.width, device),
        )
        for layer in network.shape.layers
    ]
    watched = replace(network, layers=tuple(map(_watched, network.layers, statistics)))
    for one in text.passes(device):
        watched.hidden(one.packed)
    return statistics


def _watched(layer: Layer, statistics: LayerStatistics) -> Layer:
    attention, mlp = layer.attention, layer.mlp
    if attention is not None and statistics.attention is not None:
        attention = replace(attention, output=_Watched(attention.output, statistics.attention))
    if mlp is not None and statistics.mlp is not None:
        mlp = replace(mlp, down=_Watched(mlp.down, statistics.mlp))
    return replace(layer, attention=attention, mlp=mlp)


class _Watched(Projection):
    """A linear layer whose inputs are counted."""

    def __init__(self, inner: Projection, statistics: InputStatistics) -> None:
        self.weight, self.bias = inner.weight, inner.bias
        self._inner, self._statistics = inner, statistics

    def __call__(self, inputs: Tensor) -> Tensor:
        self._statistics.add(inputs)
        return self._inner(inputs)

    def map(self, change: Callable[[Tensor], Tensor]) -> Projection:
        return _Watched(self._inner.map(change), self._statistics)
