"""Checkpoints as commands have them: fetched and known by their content, with a word on what takes long."""

from pathlib import Path

from services.cli.progress_bars import stage
from services.reporting.wording import size
from shared.checkpoint_files import FileDigests
from shared.supernet.source import fetch_model


def fetched(model: str) -> tuple[Path, str]:
    """`fetch_model`, shown while it lasts."""
    with stage("Model", note="fetching"):
        return fetch_model(model)


def content_of(directory: Path, digests: FileDigests) -> dict[str, str]:
    """`FileDigests.content`, shown while it lasts: large files are read from end to end, once."""
    unread = digests.unread(directory)
    if not unread:
        return digests.content(directory)
    done = 0
    with stage("Reading", unread, str(directory), shown=size) as shown:

        def read(more: int) -> None:
            nonlocal done
            done += more
            shown.reach(done)

        return digests.content(directory, read)
