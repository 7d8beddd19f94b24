"""Content digests: the identity of architectures, checkpoints and measurements."""

import hashlib
import json
from pathlib import Path
from typing import Any

DIGEST_CHARACTERS = 32  # 128 bits: no collision among any number of networks that can be looked at


def digest_json(value: Any) -> str:
    """Digest of a JSON value, independent of key order and white space."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARACTERS]


def digest_file(path: Path) -> str:
    """Digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_CHARACTERS]
