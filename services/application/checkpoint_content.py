"""Checkpoints fetched and known by their content, with events while that takes long."""

from pathlib import Path

from shared.checkpoint_files import FileDigests
from shared.events import Events
from shared.files import is_directory, user_path
from shared.supernet.checkpoint import Checkpoint, holds_weights
from shared.supernet.source import fetch_config, fetch_model


def fetched(model: str, events: Events) -> tuple[Path, str]:
    """`fetch_model`, a step of its own."""
    with events.step("Model", note="fetching"):
        return fetch_model(model)


def described(model: str, events: Events) -> tuple[Checkpoint, str]:
    """A model by its `config.json`, and where that came from: a step of its own. Weights are opened only where they lie
    in the directory that the model is called by."""
    with events.step("Model", note="fetching its config.json"):
        directory, origin = fetch_config(model)
    if is_directory(user_path(model)) and holds_weights(directory):
        return Checkpoint.open(directory), origin
    return Checkpoint.described(directory), origin


def content_of(directory: Path, digests: FileDigests, events: Events) -> dict[str, str]:
    """`FileDigests.content`, a step of its own where large files are read from end to end, once."""
    unread = digests.unread(directory)
    if not unread:
        return digests.content(directory)
    done = 0
    with events.step("Reading", unread, str(directory), unit="bytes") as step:

        def advance(more: int) -> None:
            nonlocal done
            done += more
            step.reach(done)

        return digests.content(directory, advance)
