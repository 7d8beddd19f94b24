"""Wanda (arXiv 2306.11695) for structures: weights times the size of what they are multiplied with."""

from torch import Tensor

from services.pruner.calibration import Calibration
from services.pruner.channel_scores import channel_scores
from services.pruner.computing import placed
from services.pruner.input_statistics import InputStatistics, measure_inputs
from services.pruner.protocol import PrunedNetwork, required_text
from services.pruner.selection import cut_out, pruned
from services.pruner.target import Target
from services.pruner.width_pruning import WidthPruning
from shared.supernet.checkpoint import Checkpoint


class Wanda(WidthPruning):
    """An input channel of a block's last linear layer scores the root mean square of its input times the sum of the
    absolute values of its column. A neuron is such a channel, and so is each number of a head.

    With the same share for each layer it is what FLAP's authors call Wanda-sp (arXiv 2312.11983), but for one thing:
    inputs are those of the whole network, not of one that is pruned up to the layer. Compared over all layers, scores
    are standardised as FLAP's are.
    """

    name = "wanda"
    reads_text = True

    def narrowed(self, base: Checkpoint, calibration: Calibration | None, target: Target) -> PrunedNetwork:
        statistics = measure_inputs(placed(base), required_text(self, calibration))
        kept = self.choose(base.network, channel_scores(base, statistics, _score), target)
        return pruned(base, kept, *cut_out(base, kept))


def _score(inputs: InputStatistics, weight: Tensor) -> Tensor:
    return inputs.mean_square.sqrt() * weight.abs().sum(0)
