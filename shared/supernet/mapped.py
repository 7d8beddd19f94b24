"""Tensors of a safetensors file, mapped into memory: pages are read when they are used."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from shared.errors import UserError


def mapped_tensors(file: Path) -> dict[str, Tensor]:
    """All of a file's, by their names. Raises UserError if it is truncated or no such file."""
    try:
        with safe_open(file, framework="pt") as mapped:
            return {name: mapped.get_tensor(name) for name in mapped.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: truncated or not a safetensors file ({error}); copy the checkpoint again") from error
