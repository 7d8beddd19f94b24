"""Digests of checkpoints in tests: always computed, never remembered."""

import os
from pathlib import Path

from shared.checkpoint_files import FileDigests, content_digest

DIGESTS = FileDigests(Path(os.devnull))


def content_of(directory: Path) -> dict[str, str]:
    """Digest of every file of a checkpoint."""
    return DIGESTS.content(directory)


def digest_of(directory: Path) -> str:
    """Identity of a checkpoint."""
    return content_digest(content_of(directory))
