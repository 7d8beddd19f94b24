"""When memory runs out."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class OutOfMemoryError(RuntimeError):
    """There was not enough memory, of the GPU or of the machine."""


@contextmanager
def memory_watched() -> Iterator[None]:
    """Turn the several ways in which memory runs out into an OutOfMemoryError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # On a CPU torch has no exception of its own for it.
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error):
            raise OutOfMemoryError(str(error) or "out of memory") from error
        raise
