"""The license that a base model's own card names."""

from pathlib import Path

from huggingface_hub import ModelCard, constants, get_session, get_token

from services.exporter.card.facts import License
from services.exporter.card.repository import is_repository

CARD = "README.md"
HUB_SECONDS = 5.0
"""That an export waits for a hub that doesn't answer; without more tries, as it can do without."""


def license_of(checkpoint: Path, model: str) -> License | None:
    """The license in the front matter of a checkpoint's card, which lies in its directory, or else at the hub, if
    `model` is an id there; None where there is none, or it can't be had."""
    here = checkpoint / CARD
    try:
        text = here.read_text(encoding="utf-8") if here.is_file() else _at_hub(model)
        found = None if text is None else ModelCard(text, ignore_metadata_errors=True).data
    except Exception:  # whatever is wrong with someone else's card, or with the network: there is an export without it
        return None
    if found is None or not isinstance(found.get("license"), str):
        return None
    name, link = (found[key] if isinstance(found.get(key), str) else None for key in ("license_name", "license_link"))
    return License(found["license"], name, link)


def _at_hub(model: str) -> str | None:
    if not is_repository(model):
        return None
    token = get_token()
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    address = f"{constants.ENDPOINT}/{model}/resolve/main/{CARD}"
    answer = get_session().get(address, headers=headers, timeout=HUB_SECONDS, follow_redirects=True)
    answer.raise_for_status()
    return str(answer.text)
