"""A base as importance is computed with it: on this machine's device, in the dtype that it prefers."""

from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from shared.supernet.device import compute_device, preferred_dtype, torch_dtype


def placed(base: Checkpoint) -> Decoder:
    """The whole network, ready to compute with."""
    device, dtype = compute_device(), torch_dtype(preferred_dtype())
    return base.cut().map(lambda tensor: tensor.to(device, dtype))
