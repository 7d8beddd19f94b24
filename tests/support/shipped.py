"""The search files that ship with the project."""

from pathlib import Path

from services.application.example import SEARCHES

SHIPPED = sorted(SEARCHES.rglob("*.yaml"))


def run_name(path: Path) -> str:
    """The run of a shipped search file: its name after that of its folder, if it lies in one."""
    return "-".join(path.relative_to(SEARCHES).with_suffix("").parts)
