"""Directories that are super-networks by their files and their `supernet.json`."""

import json
import random
from pathlib import Path
from typing import Any

from shared.manifest import SupernetManifest
from shared.settings import SpaceSettings, TrainingSettings
from tests.support.content import content_of


def write_supernet(
    directory: Path, weight_bytes: int = 100_000, seed: int = 0, config: dict[str, Any] | None = None
) -> str:
    """Write one with noise for weights; its digest."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config or {}))
    (directory / "tokenizer.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(random.Random(seed).randbytes(weight_bytes))
    return declare_supernet(directory)


def declare_supernet(directory: Path) -> str:
    """Say of a checkpoint that it is a super-network; its digest."""
    manifest = SupernetManifest(
        base="base",
        base_digest="0" * 32,
        space=SpaceSettings(depths=(1,), mlp_widths=(1,)),
        drop_order=(),
        influence=None,
        training=TrainingSettings(),
        plan="0" * 32,
        data={"origin": "nowhere", "digest": "0" * 32},
        losses={},
        versions={},
        files=content_of(directory),
    )
    manifest.write(directory)
    return manifest.digest
