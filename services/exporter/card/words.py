"""Numbers and names as Markdown."""

import re

from shared.text import one_line

SPECIAL = re.compile(r"([\\`*{}\[\]<>|~$&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
"""What could make a name emphasis, a link, a column of a table, or HTML; an underscore within a word can't."""


def plain(text: str) -> str:
    """A text that someone else made up, so that Markdown shows it as it is, in one line."""
    return SPECIAL.sub(r"\\\1", one_line(text))


def millions(count: int) -> str:
    """A number of parameters: `116.2 M`, `6.74 B`."""
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"


def megabytes(count: int) -> str:
    """A number of bytes, in powers of 1000: `232.5 MB`, `13.48 GB`."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def percent(share: float) -> str:
    """A share: `52.1`."""
    return f"{100 * share:.1f}"


def interval(bounds: tuple[float, float]) -> str:
    """An interval of shares: `49.7 to 54.6`."""
    return f"{percent(bounds[0])} to {percent(bounds[1])}"


def points(difference: float) -> str:
    """A difference of shares in points: `-3.0`, `+0.9`, `0.0`."""
    shown = f"{100 * difference:+.1f}"
    return "0.0" if shown in ("+0.0", "-0.0") else shown


def against(accuracy: float, other: float, bounds: tuple[float, float] | None) -> str:
    """How much better a network is than another: `-3.0`, with the interval of the difference where there is one."""
    words = points(accuracy - other)
    return words if bounds is None else f"{words} ({points(bounds[0])} to {points(bounds[1])})"


def examples(count: int | None) -> str:
    """How many few-shot examples there were."""
    return "the task's own" if count is None else str(count)
