"""One way in for every name of a checkpoint: a directory is used as it is, anything else is fetched once per host."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.checkpoint_files import FileDigests, has_digest
from shared.digest import DIGEST_CHARACTERS, digest_json
from shared.errors import UserError
from shared.files import is_directory, user_path, writing
from shared.locks import locked
from shared.supernet.source.hub import fetch_model
from shared.supernet.source.remote import RemoteDirectory, download
from shared.telemetry.logs import fields
from shared.text import without_users

log = logging.getLogger(__name__)


def fetch_checkpoint(location: str, digest: str | None, cache: Path) -> Path:
    """The directory of a checkpoint that lies in a directory, at a URL (`s3://`, `gs://`, `hf://`, `file://` or any
    other that fsspec knows), or on the hub.

    What a URL names is copied to `cache/checkpoints/DIGEST` by the first process that asks, verified, and put in its
    place in one step; the others wait for it. With a digest, what is there already is used without the network, once it
    is found whole; without one, the `supernet.json` at the URL is read first, and says which it is. Directories and the
    hub's cache are not verified here.

    Raises UserError where the checkpoint can't be had, doesn't fit on the disk, or isn't the one that is meant.
    """
    checkpoints = cache / "checkpoints"
    if "://" not in location:
        directory = user_path(location)
        try:
            if is_directory(directory):
                return directory
        except OSError as error:
            raise UserError(f"{location}: can't be looked at ({error.strerror}); check the rights") from error
        with _one_at_a_time(checkpoints / f".{digest_json(location)}.lock", location):
            return fetch_model(location)[0]
    wanted = RemoteDirectory(location).digest() if digest is None else digest
    if not re.fullmatch(f"[0-9a-f]{{{DIGEST_CHARACTERS}}}", wanted):  # it becomes a path
        raise UserError(f"{without_users(location)}: {wanted!r} is not a checkpoint's digest; correct the request")
    target, digests = checkpoints / wanted, FileDigests(cache)
    if has_digest(digests.content(target), wanted):
        return target
    with _one_at_a_time(checkpoints / f".{wanted}.lock", location):
        if not has_digest(digests.content(target), wanted):
            download(RemoteDirectory(location), target, wanted, digests)
    return target


@contextmanager
def _one_at_a_time(lock: Path, location: str) -> Iterator[None]:
    """Of the processes on this host."""
    waiting = fields(location=without_users(location))
    with writing(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
    with locked(lock, lambda: log.info("waiting for the process that fetches it", extra=waiting)):
        yield
