"""Checkpoints behind URLs, of every kind that fsspec knows: copied, verified, and put in their place whole."""

import errno
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from fsspec.callbacks import Callback
from fsspec.core import url_to_fs

from shared.checkpoint_files import DIRECTORIES, FETCHED, FileDigests, has_digest
from shared.errors import UserError, first_line
from shared.files import writing
from shared.manifest import MANIFEST, SupernetManifest
from shared.telemetry.logs import fields
from shared.text import without_users

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 10

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class RemoteDirectory:
    """A directory behind a URL. All methods raise UserError where it can't be reached or refuses."""

    def __init__(self, location: str) -> None:
        self.location = without_users(location)
        if "::" in location:
            raise UserError(f"{self.location}: URLs in URLs are not supported; give the URL of a directory")
        with self._reaching():
            self._files, root = url_to_fs(location)
            self._root = root.rstrip("/")

    def digest(self) -> str:
        """Identity of the super-network, by its `supernet.json`."""
        with self._reaching():
            text = self._files.cat_file(f"{self._root}/{MANIFEST}")
        return SupernetManifest.parse(text, f"{self.location}/{MANIFEST}").digest

    def sizes(self) -> dict[str, int]:
        """Bytes of each of the checkpoint's files, by its path in the directory; 0 where that isn't known."""
        with self._reaching():
            self._files.invalidate_cache()
            listed = {_last(entry): entry for entry in self._files.ls(self._root, detail=True)}
            for name in DIRECTORIES:
                if listed.get(name, {}).get("type") == "directory":
                    within = self._files.ls(f"{self._root}/{name}", detail=True)
                    listed |= {f"{name}/{_last(entry)}": entry for entry in within}
        names = {name: entry for name, entry in listed.items() if entry["type"] == "file"}
        return {
            name: entry["size"] or 0
            for name, entry in names.items()
            if any(fnmatch(name, pattern) for pattern in FETCHED)
        }

    def get(self, name: str, target: Path, progressed: Callable[[int], None]) -> None:
        """Copy a file. `progressed` is called with the bytes copied so far."""
        told = Callback(hooks={"progress": lambda size, value, **_: progressed(value)})
        with self._reaching():
            self._files.get_file(f"{self._root}/{name}", str(target), callback=told)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Every file system has exceptions of its own; all mean that the files couldn't be fetched."""
        try:
            yield
        except FileNotFoundError as error:
            raise UserError(
                f"{self.location}: not there ({_said(error)}); give the URL of a checkpoint's directory"
            ) from error
        except PermissionError as error:
            raise UserError(
                f"{self.location}: refused ({_said(error)}); check the credentials and their rights"
            ) from error
        except ImportError as error:
            raise UserError(
                f"{self.location}: {_said(error)}; what s3:// and gs:// need: pip install 'nasfarm[cloud]'"
            ) from error
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            raise UserError(
                f"{self.location}: can't be fetched ({type(error).__name__}: {_said(error)}); "
                "check the URL, the credentials and the network"
            ) from error


def _last(entry: Mapping[str, Any]) -> str:
    """The name of a listed file or directory without those of the directories above it."""
    return str(entry["name"]).rstrip("/").rsplit("/", 1)[-1]


def _said(error: Exception) -> str:
    return without_users(first_line(error))


def download(remote: RemoteDirectory, target: Path, digest: str, digests: FileDigests) -> None:
    """Put a verified copy in its place. Called under the digest's lock."""
    for partial in target.parent.glob(f".{digest}.*.part"):  # by processes that were killed
        shutil.rmtree(partial)
    sizes = remote.sizes()
    total, free = sum(sizes.values()), shutil.disk_usage(target.parent).free
    if total > free:
        raise UserError(f"{target}: needs {total} bytes, {free} are free; make room, or set NASFARM_CACHE")
    began = time.monotonic()
    log.info("fetching checkpoint", extra=fields(location=remote.location, files=len(sizes), bytes=total))
    with writing(target):
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{digest}.", suffix=".part"))
        try:
            _copy(remote, sizes, scratch)
            files = digests.content(scratch)
            if not has_digest(files, digest):
                raise UserError(
                    f"{remote.location}: not the checkpoint that was asked for, its digest is not {digest}; "
                    "copy it there again"
                )
            if target.exists():  # damaged, or it would have been used
                shutil.rmtree(target)
            scratch.chmod(0o755)
            scratch.rename(target)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
    for name, known in files.items():
        digests.remember(target / name, known)
    log.info("checkpoint fetched", extra=fields(location=remote.location, seconds=time.monotonic() - began))


def _copy(remote: RemoteDirectory, sizes: dict[str, int], scratch: Path) -> None:
    """Copy a checkpoint's files one after the other, logging now and then how far that is."""
    total, done, told = sum(sizes.values()), 0, time.monotonic()

    def progressed(here: int) -> None:
        nonlocal told
        if time.monotonic() - told >= PROGRESS_SECONDS:
            told = time.monotonic()
            log.info("fetching", extra=fields(location=remote.location, bytes=done + here, of=total))

    for name, size in sizes.items():
        (scratch / name).parent.mkdir(exist_ok=True)
        remote.get(name, scratch / name, progressed)
        done += size
