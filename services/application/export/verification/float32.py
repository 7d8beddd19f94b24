"""The exported network in float32, in which exports are compared, in no more memory than it takes itself."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from services.exporter.network import ExportedNetwork
from shared.supernet.decoder import Decoder

K = TypeVar("K")


class _InFloat32(Mapping[K, Tensor]):
    """Weights that are converted when they are asked for, and not kept: one layer after the other is quantised."""

    def __init__(self, weights: Mapping[K, Tensor]) -> None:
        self._weights = weights

    def __getitem__(self, name: K) -> Tensor:
        return self._weights[name].float()

    def __iter__(self) -> Iterator[K]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def in_float32(network: ExportedNetwork) -> Decoder:
    """The network itself, not all that its super-network has besides, converted before it is quantised."""
    checkpoint, architecture = network.checkpoint, network.architecture
    if architecture.quantization == "none":
        return checkpoint.cut(architecture).map(lambda tensor: tensor.to(torch.float32))
    weights, refitted = _InFloat32(checkpoint.weights), _InFloat32(checkpoint.refitted)
    return replace(checkpoint, weights=weights, refitted=refitted).cut(architecture)
