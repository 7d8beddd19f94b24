"""What the terminal shows: lines and formats."""

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from shared.text import printable

FILE_WIDTH = 120
"""Columns where the output is no terminal and has no width of its own."""


class PlainConsole(Console):
    """A console on which no text is markup or moves the cursor: much of it comes from elsewhere. What shall look
    special is a rich Text."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **{**options, "emoji": False, "markup": False})


console = PlainConsole(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else FILE_WIDTH)


def networks(number: int) -> str:
    """A number of networks: exact while it can be read."""
    return f"{number:,}" if number < 10**9 else f"{number:.3g}"


def duration(seconds: float) -> str:
    """A time for people: 40 s, 12 min, 3.5 h, 270 days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 96 * 3600 else f"{seconds / 86400:.0f} days"
