"""When memory runs out, of the GPU or of the machine."""

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that there was not enough memory. On a CPU torch has no class of its own for it."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)
