"""How an export shows that it is the network that was measured: one verifier for each format that can be run here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.application.export.verification.verified_items import VerifiedItems
from services.exporter.network import ExportedNetwork
from shared.errors import UserError


class DifferentExportError(UserError):
    """What was exported doesn't compute what was measured."""


@dataclass(frozen=True)
class Verification:
    """What comparing an export with our own engine showed.

    `engine` computed the export, and said of `tokens` tokens of `origin` the same as ours, but for log-probabilities
    that differ by at most `largest_difference` (None: not compared); of `items` items it answers `alike` as right or
    wrong as ours does. `words` of an own, where an engine compares something else.
    """

    engine: str
    origin: str
    tokens: int
    largest_difference: float | None = None
    items: int = 0
    alike: int = 0
    words: str = ""

    def in_words(self) -> str:
        """In one sentence without a full stop."""
        found = [] if self.largest_difference is None else [f"log-probabilities differ by at most {self._largest}"]
        found += [f"{self.alike} of {self.items} items are answered alike"] if self.items else []
        found += [self.words] if self.words else []
        return f"by {self.engine} on {self.origin}, {self.tokens:,} tokens: {', '.join(found)}"

    @property
    def _largest(self) -> str:
        return f"{self.largest_difference:.2g}"


class Verifier(Protocol):
    """Runs what was exported, by an engine that others use."""

    def tokens(self, items: VerifiedItems) -> int:
        """How many tokens go through the network, here and there together."""
        ...

    def steps(self, items: VerifiedItems) -> int:
        """How often `verify` calls `progressed`."""
        ...

    def verify(
        self, network: ExportedNetwork, directory: Path, items: VerifiedItems, progressed: Callable[[], None]
    ) -> Verification:
        """Compare the export in a directory with the network; `progressed` is called after each step. Raises
        DifferentExportError where they differ, UserError where the engine can't load it."""
        ...
