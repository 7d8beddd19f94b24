"""ShortGPT (arXiv 2403.03853): layers go by their block influence."""

from collections.abc import Iterator

from services.pruner.block_dropping import BlockDropping, droppable
from services.pruner.calibration import Calibration
from services.pruner.computing import placed
from services.pruner.protocol import required_text
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.order import measure_importance


class ShortGpt(BlockDropping):
    """The layer that turns the state least goes first (eq. 1); influence is measured once, in the whole network. In the
    paper any layer may go, the first and the last too."""

    name = "shortgpt"

    def drops(self, base: Checkpoint, calibration: Calibration | None) -> Iterator[int]:
        network, text = placed(base), required_text(self, calibration)
        passes = (one.packed for one in text.passes(network.embeddings.device))
        influence = measure_importance(network, passes).layers
        yield from sorted(droppable(base.network), key=lambda layer: (influence[layer], layer))
