"""Paths as they are typed in a shell."""

import shlex
from pathlib import Path


def shell_word(path: Path) -> str:
    """The path as one word of a command, which is neither taken apart nor taken for an option."""
    return shlex.quote(f"./{path}" if str(path).startswith("-") else str(path))
