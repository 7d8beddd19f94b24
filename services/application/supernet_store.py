"""Super-networks: where they lie, which one a search has, and who needs it. Each is made once, for any number of
searches."""

import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.application.run_directory import RunDirectory
from services.coordinator.history import History
from services.trainer.data import load_instructions
from shared.checkpoint_files import FileDigests, has_digest
from shared.environment import Environment
from shared.errors import UserError
from shared.files import is_directory, is_file, user_path, writing
from shared.identity import TOKENS_VERSION, TRAINED_SPACE, TRAINING, difference
from shared.locks import locked, try_lock
from shared.manifest import MANIFEST, SupernetManifest, base_location
from shared.settings import SearchSettings, parse_settings
from shared.text import shortened

UNFINISHED = ".unfinished"
WORK_FILES = {"training.pt", "training.tmp", "training.jsonl", "checkpoint"}
"""What lies in the workspace of a fine-tuning."""
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
        """Names of the runs that have the super-network in this directory, or wait for it."""
        target = directory.resolve()
        links = [link for link in sorted(runs.glob("*/supernet*")) if link.name == "supernet" and link.is_symlink()]
        return [link.parent.name for link in links if link.resolve() == target]

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


@dataclass(frozen=True)
class SupernetRequirement:
    """What a search file asks of its super-network. Model and training data count by their content, as far as that is
    at hand, else by their names: `base` holds the digests of the model's files, `data` the digest of the data."""

    settings: SearchSettings
    base: Mapping[str, str] | None
    data: str | None

    @classmethod
    def at_hand(cls, settings: SearchSettings, environment: Environment) -> "SupernetRequirement":
        """What can be told without fetching anything, and without the libraries of models."""
        directory, file = user_path(settings.model), user_path(settings.training.data)
        base = FileDigests(environment.cache).content(directory) if is_directory(directory) else None
        data = load_instructions(settings.training.data, environment).digest if is_file(file) else None
        return cls(settings, base, data)

    def is_base_of(self, manifest: SupernetManifest) -> bool:
        """Whether the super-network was made from the model that is asked for."""
        if self.base is not None:
            return has_digest(self.base, manifest.base_digest)
        return manifest.base == base_location(self.settings.model)

    def difference(self, manifest: SupernetManifest, methods: bool = True) -> str | None:
        """In what a super-network differs from the one that is asked for, in words; `methods` says whether our own
        count, which other releases may have had otherwise."""
        if not self.is_base_of(manifest):
            return _changed("model", manifest.base, base_location(self.settings.model))
        data, asked = manifest.training.data, self.settings.training.data
        if data != asked if self.data is None else manifest.data["digest"] != self.data:
            return _changed("training.data", data, asked)
        if methods and manifest.tokens_version != TOKENS_VERSION:
            return f"training rows became tokens in another way, version {manifest.tokens_version}"
        return difference(_sections(manifest), _sections(self.settings))


def supernet_of_run(run: RunDirectory, store: SupernetStore, asked: SupernetRequirement) -> Supernet | None:
    """The super-network that a run has already, its own or one of the store; None if it has none.

    A run with a history goes on with the one that this was measured with, whatever release made it, if it was made as
    asked. Raises UserError if it was made otherwise; or if it is gone, and what is asked for would be another one.
    """
    supernet = Supernet.read(run.supernet.resolve()) if is_supernet(run.supernet) else None
    needed = None
    if run.history.is_file():
        with closing(History.read(run.history)) as history:
            about = history.about()
        needed = about["recipe"]["supernet"]
        if supernet is None or supernet.manifest.digest != needed:
            supernet = next((each for each in store.all() if each.manifest.digest == needed), None)
        if supernet is None:
            _refuse_another(run, parse_settings(about["settings"], str(run.history)), asked.settings)
    if supernet is None:
        return None
    replaceable = run.supernet.is_symlink() and needed is None
    found = asked.difference(supernet.manifest, methods=replaceable)
    if found is None:
        return supernet
    if replaceable:
        return None
    raise UserError(
        f"{run.supernet}: this super-network was made with other settings, model or data ({found}); "
        "restore them, or change `name` in the search file to have another one made"
    )


def find_supernet(
    settings: SearchSettings, run: RunDirectory, store: SupernetStore, environment: Environment
) -> Supernet | None:
    """The super-network of a search, as far as that can be told without the model and the training data; None if it is
    still to be made.

    Raises UserError if the search file names one that isn't there, or the run has one that was made otherwise.
    """
    asked = SupernetRequirement.at_hand(settings, environment)
    if settings.supernet is not None:
        return named_supernet(asked, store)
    of_run = supernet_of_run(run, store, asked)
    if of_run is not None:
        return of_run
    return next((each for each in store.all() if asked.difference(each.manifest) is None), None)


def named_supernet(asked: SupernetRequirement, store: SupernetStore) -> Supernet:
    """The super-network that a search file names. Raises UserError where it isn't there or doesn't go with the file."""
    settings = asked.settings
    supernet = store.named(settings.supernet or "")
    manifest = supernet.manifest
    by_name = asked.base is None and Path(manifest.base).is_absolute()  # which says nothing of a model of the hub
    if not by_name and not asked.is_base_of(manifest):
        raise UserError(
            f"model: {shortened(settings.model)} is not the model that {supernet.directory} was made from, which was "
            f"{shortened(manifest.base)}; name that, or another super-network"
        )
    made = manifest.space.depth_rule
    if made != settings.space.depth_rule:
        raise UserError(
            f"space.depth_rule: {settings.space.depth_rule}, but the layers of {supernet.directory} were ordered by "
            f"{made}; write that"
        )
    if "training" in settings.model_fields_set:
        found = difference(_sections(manifest)["training"], _sections(settings)["training"], "training.")
        if found is not None:
            raise UserError(
                f"training: {supernet.directory} was made otherwise ({found}); leave the section out, or correct it"
            )
    return supernet


def _refuse_another(run: RunDirectory, then: SearchSettings, now: SearchSettings) -> None:
    """A run whose super-network is gone can only go on if the same one is made again."""
    found = difference(_sections(then), _sections(now))
    if found is not None and then.supernet is None:
        raise UserError(
            f"{run.history}: was measured with a super-network that is gone, and the search file asks for another one "
            f"({found}); restore that, or change `name` in the search file to begin a new search"
        )


def _sections(of: SupernetManifest | SearchSettings) -> dict[str, Any]:
    """What is said of a super-network besides model and data."""
    return {
        "space": TRAINED_SPACE.of(of.space.model_dump(mode="json")),
        "training": TRAINING.of(of.training.model_dump(mode="json")),
    }


def _changed(what: str, made: str, asked: str) -> str:
    if made == asked:
        return f"{what} {shortened(made)} has changed since"
    return f"{what} was {shortened(made)}, now {shortened(asked)}"
