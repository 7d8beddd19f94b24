"""The license that a base model's own card names."""

from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, metadata_load

from services.exporter.card.facts import License
from services.exporter.card.repository import is_repository

CARD = "README.md"


def license_of(checkpoint: Path, model: str) -> License | None:
    """The license in the front matter of a checkpoint's card, which lies in its directory, or else at the hub, if
    `model` is an id there; None where there is none, or it can't be had."""
    try:
        here = checkpoint / CARD
        card = here if here.is_file() or not is_repository(model) else Path(hf_hub_download(model, CARD))
        found: Any = metadata_load(card)
    except Exception:  # whatever is wrong with someone else's card, or with the network: there is an export without it
        return None
    if not isinstance(found, dict) or not isinstance(found.get("license"), str):
        return None
    name, link = (found[key] if isinstance(found.get(key), str) else None for key in ("license_name", "license_link"))
    return License(found["license"], name, link)
