"""How an evaluation says that it gets on."""

from collections.abc import Callable

Progress = Callable[[], None]
"""Called whenever an evaluation has got on: a batch, a repeat, a stage is done."""


def unheard() -> None:
    """For those who don't want to know."""
