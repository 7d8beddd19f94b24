"""How an evaluation reports its progress."""

from collections.abc import Callable

ProgressCallback = Callable[[], None]
"""Called after each step of an evaluation: a batch, a repeat, a stage."""


def ignore_progress() -> None:
    """Does nothing."""
