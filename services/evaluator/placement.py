"""A checkpoint's weights on the device, and in the dtype, that is computed with."""

from dataclasses import replace

import torch

from shared.supernet.checkpoint import Checkpoint


def to_device(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Checkpoint:
    """The checkpoint with all weights on a device in a dtype: the mapped ones themselves where they are so already."""
    return replace(
        checkpoint,
        weights={name: tensor.to(device, dtype) for name, tensor in checkpoint.weights.items()},
        refitted={place: tensor.to(device, dtype) for place, tensor in checkpoint.refitted.items()},
    )
