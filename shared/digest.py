"""Content digests: the identity of architectures, checkpoints and measurements."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

READ_BYTES = 2**20
DIGEST_CHARACTERS = 32  # 128 bits: no collision among any number of networks that can be looked at


def digest_json(value: Any) -> str:
    """Digest of a JSON value, independent of key order and white space."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARACTERS]


def digest_file(path: Path, read: Callable[[int], None] = lambda _: None) -> str:
    """Digest of a file's bytes; `read` is told how many more have been read, again and again."""
    digest, buffer = hashlib.sha256(), bytearray(READ_BYTES)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
            read(count)
    return digest.hexdigest()[:DIGEST_CHARACTERS]
