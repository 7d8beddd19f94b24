"""Text from elsewhere on a terminal: names, reasons and paths that others made up."""

import re
import unicodedata

REPLACED = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Unicode categories of what moves the cursor, changes colours, turns the direction of writing, or is half of a
character."""


def printable(text: str) -> str:
    """The text with everything but what can be seen replaced by `�`; lines stay lines."""
    return "".join("�" if unicodedata.category(each) in REPLACED and each != "\n" else each for each in text)


USER = re.compile(r"://(?:[^/\s]*@|[^/\s]*:\S*@)")
"""User and password in a URL; where the password isn't percent-encoded, as far as it can be told."""


def without_users(text: str) -> str:
    """The text without user and password in the URLs that it names."""
    return USER.sub("://", text)


def one_line(text: str) -> str:
    """`printable`, with everything on one line."""
    return printable(text).replace("\n", " ")
