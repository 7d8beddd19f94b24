"""FLAP (arXiv 2312.11983): structures go by how much what they add fluctuates; what they add on average stays."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from services.pruner.calibration import Calibration
from services.pruner.channel_scores import LAST, channel_scores, last_weight
from services.pruner.computing import placed
from services.pruner.input_statistics import InputStatistics, LayerStatistics, measure_inputs
from services.pruner.protocol import PrunedNetwork, required_text
from services.pruner.selection import KeptLayer, cut_out, narrowed, pruned
from services.pruner.structures import KINDS, count
from services.pruner.target import Target
from services.pruner.width_pruning import WidthPruning
from shared.network.shape import LayerShape, NetworkShape
from shared.network.tensors import layer_tensors
from shared.settings.baselines import FlapOptions
from shared.supernet.checkpoint import Checkpoint


class Flap(WidthPruning):
    """An input channel of a block's last linear layer scores the sample variance of its input times the square of its
    column's norm. Standardised, scores of all layers and of neurons and heads are compared with one another.

    The authors' code squares attention's scores before they are standardised; here they are not.

    With compensation, the mean of a removed input times its column goes into the linear layer's bias. An MLP's linear
    layers have biases all or none, so gate and up get zeros where there were none; they count as what they are.
    """

    name = "flap"
    reads_text = True

    def __init__(self, options: FlapOptions) -> None:
        super().__init__(options)
        self._compensates = options.compensation

    def narrow(self, layer: LayerShape, neurons: int, groups: int) -> LayerShape:
        narrow = super().narrow(layer, neurons, groups)
        if self._compensates and narrow.mlp is not None and narrow.mlp != layer.mlp:
            narrow = replace(narrow, mlp=replace(narrow.mlp, bias=True))
        if self._compensates and narrow.attention is not None and narrow.attention != layer.attention:
            narrow = replace(narrow, attention=replace(narrow.attention, output_bias=True))
        return narrow

    def narrowed(self, base: Checkpoint, calibration: Calibration | None, target: Target) -> PrunedNetwork:
        statistics = measure_inputs(placed(base), required_text(self, calibration))
        kept = self.choose(base.network, channel_scores(base, statistics, _score), target)
        network, weights = cut_out(base, kept)
        if self._compensates:
            network = narrowed(
                base.network, [[len(one.structures[kind]) for kind in KINDS] for one in kept], self.narrow
            )
            weights |= _biases(base, network, kept, statistics)
        return pruned(base, kept, network, weights)


def _score(inputs: InputStatistics, weight: Tensor) -> Tensor:
    return inputs.variance * weight.square().sum(0)


def _biases(
    base: Checkpoint, network: NetworkShape, kept: Sequence[KeptLayer], statistics: Sequence[LayerStatistics]
) -> dict[str, Tensor]:
    """The biases of those linear layers whose inputs have become fewer, and zeros for new ones beside them."""
    biases = {}
    for index, (one, measured) in enumerate(zip(kept, statistics, strict=True)):
        before, after = base.network.layers[index], network.layers[index]
        names = {(spec.part, spec.bias): spec.name for spec in layer_tensors(network.family, after, index)}
        for kind, part in LAST.items():
            inputs, number, places = measured.of(kind), count(before, kind), one.structures[kind]
            if inputs is not None and len(places) < number:
                weight, gone = last_weight(base, index, kind), torch.ones(number, dtype=torch.bool)
                gone[places] = False
                constant = weight.double() @ (inputs.mean * gone.repeat_interleave(weight.shape[1] // number))
                former = base.weights.get(names[part, True])
                biases[names[part, True]] = (constant if former is None else former + constant).to(weight.dtype)
        if before.mlp is not None and after.mlp is not None and after.mlp.bias and not before.mlp.bias:
            for part in ("mlp.gate", "mlp.up"):
                biases[names[part, True]] = torch.zeros(
                    after.mlp.width, dtype=last_weight(base, index, "neurons").dtype
                )
    return biases
