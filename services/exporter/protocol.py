"""The interface of all formats that networks are exported to."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from services.exporter.names import FormatName
from services.exporter.network import ExportedNetwork

__all__ = ["ExportFormat", "FormatName", "Progressed"]

Progressed = Callable[[int], None]
"""Called with the number of bytes that were written since the last call."""


class ExportFormat(Protocol):
    """Writes networks for others to load. Its options are its own attributes."""

    @property
    def name(self) -> FormatName:
        """What it is called on the command line."""
        ...

    def require_possible(self, network: ExportedNetwork) -> None:
        """Raise UserError, naming what it can't hold, for a network that can't be exported to this format."""
        ...

    def bytes(self, network: ExportedNetwork) -> int:
        """Bytes of the weights on disk, as they are going to be written."""
        ...

    def write(self, network: ExportedNetwork, directory: Path, progressed: Progressed) -> None:
        """Write everything that others need to load the network into an empty directory, which whoever calls puts into
        its place when it is whole. Holds one tensor in memory at a time, not the network. Raises UserError as
        `require_possible` does, and OSError where it can't be written.
        """
        ...
