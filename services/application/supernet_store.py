"""Super-networks: where they lie, and who uses or makes them. Each is made once, for any number of searches."""

import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from shared.checkpoint_files import REFITTED, has_digest
from shared.errors import UserError
from shared.files import user_path, writing
from shared.locks import locked, try_lock
from shared.manifest import MANIFEST, SupernetManifest
from shared.text import shortened

UNFINISHED = ".unfinished"
WORK_FILES = {"training", "training.jsonl", "memory.json", "checkpoint", REFITTED, "training.pt", "training.tmp"}
"""What lies in the workspace of a fine-tuning; the last two by earlier releases."""
USERS = ("*/supernet*", "*/supernets/*")
"""Links to super-networks: one of each run, some of each study. What leads nowhere is found by patterns alone."""
DIGEST = re.compile("[0-9a-f]{4,32}")
"""A digest, or how it begins."""


@dataclass(frozen=True)
class Supernet:
    """A super-network that is there: the checkpoint's directory, and what its `supernet.json` says."""

    directory: Path
    manifest: SupernetManifest

    @classmethod
    def read(cls, directory: Path) -> "Supernet":
        """Raises UserError where there is none, or a damaged one."""
        return cls(directory, SupernetManifest.read(directory))

    def verify(self, files: Mapping[str, str]) -> None:
        """Raise UserError if the files, given by their digests, aren't those that `supernet.json` speaks of."""
        if not has_digest(files, self.manifest.digest):
            raise UserError(
                f"{self.directory}: the files differ from those in {MANIFEST}; remove the directory to make it again"
            )


@dataclass(frozen=True)
class SupernetStore:
    """The directory in which super-networks lie, each under the digest of its recipe. What is unfinished lies beside
    it."""

    path: Path

    def place(self, recipe_digest: str) -> Path:
        """Where the super-network of a recipe lies, or is going to."""
        return self.path / recipe_digest

    def all(self) -> list[Supernet]:
        """Those that are there, the latest first; what can't be read is left out."""
        found = []
        for file in sorted(self.path.glob(f"[!.]*/{MANIFEST}"), key=lambda file: -file.stat().st_mtime):
            try:
                found.append(Supernet.read(file.parent))
            except UserError:
                continue
        return found

    def unfinished(self) -> list[Path]:
        """Where the super-networks are going to lie of which the fine-tuning is under way, or was interrupted."""
        workspaces = sorted(path for path in self.path.glob(f"*{UNFINISHED}") if path.is_dir())
        directories = [path.with_name(path.name.removesuffix(UNFINISHED)) for path in workspaces]
        return [directory for directory in directories if not (directory / MANIFEST).is_file()]

    def named(self, name: str) -> Supernet:
        """The super-network of a directory, or of a digest (its recipe's or its content's, or how that begins).

        Raises UserError where there is none, or where several digests begin so.
        """
        directory = user_path(name)
        if is_supernet(directory):
            return Supernet.read(directory)
        found = self.matching(name)
        if len(found) == 1:
            return found[0]
        asked = shortened(name)
        if found:
            raise UserError(f"super-network {asked}: {len(found)} digests in {self.path} begin so; give more of it")
        raise UserError(
            f"super-network {asked}: neither a directory with a {MANIFEST} nor the digest of one in {self.path}; "
            "`nasfarm train` makes one, `nasfarm status` lists those that are there"
        )

    def matching(self, digest: str) -> list[Supernet]:
        """Those whose digest, the recipe's or the content's, is this one or begins so."""
        if DIGEST.fullmatch(digest) is None:
            return []
        names = [(each, (each.directory.name, each.manifest.digest)) for each in self.all()]
        return [each for each, digests in names if any(name.startswith(digest) for name in digests)]

    def damaged(self) -> list[Path]:
        """The directories of those that are there and can't be read."""
        readable = {each.directory for each in self.all()}
        return sorted(file.parent for file in self.path.glob(f"[!.]*/{MANIFEST}") if file.parent not in readable)

    def users(self, directory: Path, runs: Path) -> list[str]:
        """Names of the runs and studies that have the super-network in this directory, or wait for it."""
        target = directory.resolve()
        links = [link for pattern in USERS for link in runs.glob(pattern) if link.name != "supernets"]
        users = {link.relative_to(runs).parts[0] for link in links if link.is_symlink() and link.resolve() == target}
        return sorted(users)

    def remove(self, directory: Path) -> None:
        """Remove a super-network, with what is unfinished of it. Raises UserError while it is being made."""
        with locked(_lock_file(directory)) as free, writing(directory):
            if not free:
                raise UserError(f"{directory}: is just being made; stop that first")
            (directory / MANIFEST).unlink(missing_ok=True)  # what is half removed is no super-network
            for path in (directory, workspace_of(directory)):
                shutil.rmtree(path, ignore_errors=True)
            _lock_file(directory).unlink(missing_ok=True)


def is_supernet(directory: Path) -> bool:
    """Whether there is a finished super-network in a directory."""
    try:
        return (directory / MANIFEST).is_file()
    except OSError:  # no such name can be
        return False


def workspace_of(directory: Path) -> Path:
    """Where what is unfinished of a super-network lies."""
    return directory.with_name(directory.name + UNFINISHED)


def clear_workspace(directory: Path) -> None:
    """Remove what a fine-tuning left behind that was killed at its very end; nothing while one is under way, and
    nothing that is not a fine-tuning's."""
    workspace = workspace_of(directory)
    if not workspace.is_dir():
        return
    with locked(_lock_file(directory)) as free:
        if free and {path.name for path in workspace.iterdir()} <= WORK_FILES:
            shutil.rmtree(workspace, ignore_errors=True)


def making(directory: Path, wait: Callable[[], None]) -> AbstractContextManager[bool]:
    """Keep other processes from making the same super-network meanwhile; `wait` is called where one does so already."""
    with writing(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
    return locked(_lock_file(directory), wait)


def busy(directory: Path) -> bool:
    """Whether a process just makes the super-network of a directory."""
    try:
        with _lock_file(directory).open("rb") as file:  # which we may be allowed to read alone
            return not try_lock(file, shared=True)
    except OSError:
        return False


def _lock_file(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.lock")
