"""Super-networks: where they lie, which one a search has, and who needs it. Each is made once, for any number of
searches."""

import fcntl
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.cli.run import RunDirectory
from shared.content import FileDigests, has_digest
from shared.errors import UserError
from shared.files import user_path, writing
from shared.identity import SUPERNET, TOKENS_VERSION, difference
from shared.manifest import MANIFEST, SupernetManifest, base_location
from shared.settings import SearchSettings

UNFINISHED = ".unfinished"


@dataclass(frozen=True)
class Supernet:
    """A super-network that is there: the checkpoint's directory, and what its `supernet.json` says."""

    directory: Path
    manifest: SupernetManifest

    @classmethod
    def read(cls, directory: Path) -> "Supernet":
        """Raises UserError where there is none, or a damaged one."""
        return cls(directory, SupernetManifest.read(directory))

    def verify(self, digests: FileDigests) -> None:
        """Raise UserError if the files aren't those that `supernet.json` speaks of."""
        if not has_digest(digests.content(self.directory), self.manifest.digest):
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
        if (directory / MANIFEST).is_file():
            return Supernet.read(directory)
        found = [
            each for each in self.all() if each.directory.name.startswith(name) or each.manifest.digest.startswith(name)
        ]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"super-network {name}: {len(found)} digests in {self.path} begin so; give more of it")
        raise UserError(
            f"super-network {name}: neither a directory with a {MANIFEST} nor the digest of one in {self.path}; "
            "`nasfarm train` makes one, `nasfarm status` lists those that are there"
        )

    def users(self, directory: Path, runs: Path) -> list[str]:
        """Names of the runs that have the super-network in this directory, or wait for it."""
        target = directory.resolve()
        links = [link for link in sorted(runs.glob("*/supernet*")) if link.name == "supernet" and link.is_symlink()]
        return [link.parent.name for link in links if link.resolve() == target]

    def remove(self, directory: Path) -> None:
        """Remove a super-network, with what is unfinished of it."""
        with writing(directory):
            (directory / MANIFEST).unlink(missing_ok=True)  # what is half removed is no super-network
            for path in (directory, workspace_of(directory)):
                shutil.rmtree(path, ignore_errors=True)
            _lock_of(directory).unlink(missing_ok=True)


def workspace_of(directory: Path) -> Path:
    """Where what is unfinished of a super-network lies."""
    return directory.with_name(directory.name + UNFINISHED)


@contextmanager
def making(directory: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Keep other processes from making the same super-network meanwhile; `wait` is called where one does so already."""
    with writing(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock_of(directory).open("w")
    with lock:  # released by the kernel however this process ends
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def busy(directory: Path) -> bool:
    """Whether a process just makes the super-network of a directory."""
    try:
        lock = _lock_of(directory).open("r")
    except FileNotFoundError:
        return False
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _lock_of(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.lock")


def supernet_of_run(run: RunDirectory, asked: dict[str, Any], base: Mapping[str, str] | None = None) -> Supernet | None:
    """The super-network that a run has already, its own or one of the store; None if it has none.

    It goes on with it whatever release made it, if it was made as asked: `asked` holds the parts of its recipe that are
    known, `base` the digests of the base model's files. Raises UserError if it was made otherwise, unless the run has
    nothing yet that depends on it.
    """
    if not (run.supernet / MANIFEST).is_file():
        return None
    supernet = Supernet.read(run.supernet.resolve())
    replaceable = run.supernet.is_symlink() and not run.history.is_file()
    if not replaceable:  # whatever release made it
        asked = {name: value for name, value in asked.items() if name != "tokens_version"}
    if base is not None and has_digest(base, supernet.manifest.base_digest):
        asked = {**asked, "base": supernet.manifest.base_digest}  # which may be by what counted in an earlier release
    found = difference(_known(supernet.manifest, asked), asked)
    if found is None:
        return supernet
    if replaceable:
        return None
    raise UserError(
        f"{run.supernet}: this super-network was made with other settings, model or data ({found}); "
        "restore them, or change `name` in the search file to have another one made"
    )


def find_supernet(settings: SearchSettings, run: RunDirectory, store: SupernetStore) -> Supernet | None:
    """The super-network of a search, as far as that can be told without the model and the training data: these count by
    their names. None if it is still to be made.

    Raises UserError if the search file names one that isn't there, or the run has one that was made otherwise.
    """
    if settings.supernet is not None:
        return named_supernet(settings, store)
    asked = {**asked_by_name(settings), "tokens_version": TOKENS_VERSION}
    of_run = supernet_of_run(run, asked)
    if of_run is not None:
        return of_run
    return next((each for each in store.all() if difference(_known(each.manifest, asked), asked) is None), None)


def named_supernet(settings: SearchSettings, store: SupernetStore) -> Supernet:
    """The super-network that a search file names. Raises UserError where it isn't there or doesn't go with the file."""
    supernet = store.named(settings.supernet or "")
    made = supernet.manifest.space.depth_rule
    if made != settings.space.depth_rule:
        raise UserError(
            f"space.depth_rule: {settings.space.depth_rule}, but the layers of {supernet.directory} were ordered by "
            f"{made}; write that"
        )
    if "training" in settings.model_fields_set:
        asked = {"training": asked_by_name(settings)["training"]}
        found = difference(_known(supernet.manifest, asked), asked)
        if found is not None:
            raise UserError(
                f"training: {supernet.directory} was made otherwise ({found}); leave the section out, or correct it"
            )
    return supernet


def asked_by_name(settings: SearchSettings) -> dict[str, Any]:
    """What a search file says of its super-network's recipe."""
    values = settings.model_dump(mode="json")
    parts = SUPERNET.of({"base": None, "data": None, "space": values["space"], "training": values["training"]})
    named = {"model": base_location(settings.model), "training.data": settings.training.data}
    return {**named, "space": parts["space"], "training": parts["training"]}


def _known(manifest: SupernetManifest, asked: dict[str, Any]) -> dict[str, Any]:
    """What a manifest says of the parts of a recipe that are asked for."""
    named = {"model": manifest.base, "training.data": manifest.training.data, "tokens_version": manifest.tokens_version}
    everything = {**manifest.recipe, **named}
    return {name: everything[name] for name in asked}
