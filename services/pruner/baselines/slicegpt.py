"""SliceGPT (arXiv 2401.15024): every state is sliced to its principal directions (`services.pruner.state_slicing`).

Without the paper's recovery by LoRA.
"""

from services.pruner.calibration import Calibration
from services.pruner.protocol import PrunedNetwork, require_possible, required_text
from services.pruner.sliced_shape import hidden_for, sliced_shape
from services.pruner.state_slicing import slice_network
from services.pruner.target import Target, fits
from shared.network.shape import NetworkShape
from shared.settings.baselines import SliceGptOptions
from shared.supernet.checkpoint import Checkpoint


class SliceGpt:
    """Slices states to the hidden size with which the network is the largest that fits. Networks of other families than
    `sliced_shape.FAMILIES`, and those that are sliced already, are refused.

    The head is sliced, too, as in the paper; the authors' code leaves it whole unless it is told otherwise.
    """

    name = "slicegpt"
    reads_text = True
    draws = False

    def __init__(self, options: SliceGptOptions) -> None:
        self._options = options

    def smallest(self, base: NetworkShape, target: Target) -> NetworkShape:
        return sliced_shape(base, self._options.step)

    def least_text(self, base: NetworkShape, target: Target) -> int:
        # So many directions can't be told apart with fewer states than there are of them.
        return 0 if fits(base, target) else self._hidden(base, target)

    def prune(self, base: Checkpoint, calibration: Calibration | None, target: Target, seed: int) -> PrunedNetwork:
        require_possible(self, base.network, calibration, target)
        kept = tuple(range(base.network.depth))
        if fits(base.network, target):
            return PrunedNetwork(base.cut(), kept)
        hidden = self._hidden(base.network, target)
        return PrunedNetwork(slice_network(base, required_text(self, calibration).sequences, hidden), kept)

    def _hidden(self, base: NetworkShape, target: Target) -> int:
        return hidden_for(base, target.at_most, target.size, self._options.step)
