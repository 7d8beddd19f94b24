"""Scores of structures by the input channels of attention's and MLP's last linear layers, as FLAP (arXiv 2312.11983)
compares them between layers and between neurons and heads: standardised within each of these linear layers."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from services.pruner.input_statistics import InputStatistics, LayerStatistics
from services.pruner.structures import Kind, Scores, count
from shared.network.tensors import layer_tensors
from shared.supernet.checkpoint import Checkpoint

LAST: dict[Kind, str] = {"neurons": "mlp.down", "groups": "attention.output"}
"""The linear layers whose inputs are the structures' outputs."""

ChannelScore = Callable[[InputStatistics, Tensor], Tensor]
"""A number for each channel (inputs,), by its inputs and the linear layer's weight (outputs, inputs)."""


def channel_scores(base: Checkpoint, statistics: Sequence[LayerStatistics], score: ChannelScore) -> Scores:
    """The mean of the standardised scores of each structure's channels. Within a layer that changes no order."""
    return Scores(
        *(
            tuple(_of_layer(base, index, kind, measured, score) for index, measured in enumerate(statistics))
            for kind in LAST
        )
    )


def last_weight(base: Checkpoint, index: int, kind: Kind) -> Tensor:
    """The weight of the linear layer that the structures of a kind put their outputs into."""
    specs = layer_tensors(base.network.family, base.network.layers[index], index)
    return base.weights[next(spec.name for spec in specs if spec.part == LAST[kind])]


def _of_layer(base: Checkpoint, index: int, kind: Kind, measured: LayerStatistics, score: ChannelScore) -> Tensor:
    inputs, number = measured.of(kind), count(base.network.layers[index], kind)
    if inputs is None:
        return torch.empty(0)
    scores = score(inputs, last_weight(base, index, kind).double())
    spread = scores.std() if len(scores) > 1 else torch.zeros(())
    standardised = (scores - scores.mean()) / spread if spread > 0 else torch.zeros_like(scores)
    return standardised.view(number, -1).mean(1).float()
