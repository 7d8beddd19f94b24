"""What the displays have in common: something is shown for a while, and closed however the command ends."""

from contextlib import ExitStack
from types import TracebackType
from typing import Self


class Display:
    """A context in which `shown` holds what is on the screen just now."""

    def __init__(self) -> None:
        self.shown = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shown.close()
