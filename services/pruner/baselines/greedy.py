"""Greedy dropping of layers by what that does to the network's predictions."""

from collections.abc import Iterator

from services.pruner.block_dropping import BlockDropping, drop_until_fit, droppable
from services.pruner.calibration import Calibration
from services.pruner.computing import placed
from services.pruner.target import Target
from shared.network.shape import NetworkShape
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.divergence import WholeNetwork


class Greedy(BlockDropping):
    """That layer goes next without which the predictions diverge least from the base's.

    Each drop takes a pass for each layer that is left, through the layers behind it.
    """

    name = "greedy"

    def keep(self, base: Checkpoint, text: Calibration, target: Target, seed: int) -> tuple[int, ...]:
        network = placed(base)
        whole = WholeNetwork(network, text.rows(network.embeddings.device))
        return drop_until_fit(base.network, _order(base.network, whole), target)


def _order(network: NetworkShape, whole: WholeNetwork) -> Iterator[int]:
    """Layers in the order in which they go, each found when it is asked for."""
    kept, left = tuple(range(network.depth)), droppable(network)
    while left and len(kept) > 1:
        dropped, *left = whole.ranked(kept, left)
        kept = tuple(one for one in kept if one != dropped)
        yield dropped
