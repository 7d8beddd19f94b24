"""ShortGPT (arXiv 2403.03853): layers go by their block influence."""

from services.pruner.block_dropping import BlockDropping, drop_until_fit, droppable
from services.pruner.calibration import Calibration
from services.pruner.computing import placed
from services.pruner.target import Target
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.order import measure_importance


class ShortGpt(BlockDropping):
    """The layer that turns the state least goes first (eq. 1); influence is measured once, in the whole network. In the
    paper any layer may go, the first and the last too."""

    name = "shortgpt"

    def keep(self, base: Checkpoint, text: Calibration, target: Target, seed: int) -> tuple[int, ...]:
        network = placed(base)
        influence = measure_importance(network, text.rows(network.embeddings.device)).layers
        order = sorted(droppable(base.network), key=lambda layer: (influence[layer], layer))
        return drop_until_fit(base.network, order, target)
