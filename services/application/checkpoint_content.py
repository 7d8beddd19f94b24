"""Checkpoints fetched and known by their content, with events while that takes long."""

from pathlib import Path

from shared.checkpoint_files import FileDigests
from shared.events import Events
from shared.supernet.source import fetch_model


def fetched(model: str, events: Events) -> tuple[Path, str]:
    """`fetch_model`, a step of its own."""
    with events.step("Model", note="fetching"):
        return fetch_model(model)


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
