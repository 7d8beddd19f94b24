"""Magnitude pruning: what has the smallest weights goes first."""

from services.pruner.calibration import Calibration
from services.pruner.protocol import PrunedNetwork
from services.pruner.selection import cut_out, pruned
from services.pruner.structures import Scores, per_number
from services.pruner.target import Target
from services.pruner.width_pruning import WidthPruning
from shared.supernet.checkpoint import Checkpoint


class Magnitude(WidthPruning):
    """A structure's score is the mean square of its weights and biases: the square of their norm, made comparable
    between neurons and key/value groups."""

    name = "magnitude"
    reads_text = False

    def narrowed(self, base: Checkpoint, calibration: Calibration | None, target: Target) -> PrunedNetwork:
        kept = self.choose(base.network, magnitudes(base), target)
        return pruned(base, kept, *cut_out(base, kept))


def magnitudes(base: Checkpoint) -> Scores:
    """The mean square of each structure's numbers."""
    layers = [
        per_number(base.network, index, lambda spec: base.weights[spec.name], lambda vectors: vectors.square().sum(1))
        for index in range(base.network.depth)
    ]
    return Scores.of_layers(layers)
