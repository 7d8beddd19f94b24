"""How an evaluation says that it gets on."""

from collections.abc import Callable

ProgressCallback = Callable[[], None]
"""Called whenever an evaluation has got on: a batch, a repeat, a stage is done."""


def ignore_progress() -> None:
    """For those who don't want to know."""
