"""The runs and the super-networks of this machine, and which super-network may be removed."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from services.application.run_directory import STUDY_FILE, RunDirectory, is_study
from services.application.run_status import state_in_words
from services.application.study.progress import state_in_words as study_in_words
from services.application.supernet_store import Supernet, SupernetStore, busy, workspace_of
from shared.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class RunEntry:
    """A run: its state in words, and its super-network (None: none yet, or not to be seen)."""

    name: str
    state: str
    supernet: str | None


@dataclass(frozen=True)
class SupernetEntry:
    """A super-network that is there, damaged or unfinished. None is what isn't known, or not to be seen.

    Attributes:
        directory: where it lies.
        model: what it was made from.
        steps: of its fine-tuning.
        bytes: of its files.
        made: on which day, or its state where it isn't whole.
        users: names of the runs that need it.
    """

    directory: Path
    model: str | None
    steps: int | None
    bytes: int | None
    made: str | None
    users: tuple[str, ...]


def runs_in(runs: Path, store: SupernetStore) -> list[RunEntry]:
    """All runs and studies of a directory; one that can't be read hides no other."""
    entries = []
    for path in sorted({file.parent for name in ("search.yaml", STUDY_FILE) for file in runs.glob(f"*/{name}")}):
        run = RunDirectory(path)
        try:
            state = study_in_words(path) if is_study(path) else state_in_words(run)
        except UserError as error:
            state = str(error)
        except PermissionError as error:  # another user's
            state = f"can't be read ({error.strerror})"
        supernet = _seen(partial(_supernets_of_study if is_study(path) else _supernet_of, run, store))
        entries.append(RunEntry(path.name, state, supernet))
    return entries


def supernets_in(store: SupernetStore, runs: Path) -> list[SupernetEntry]:
    """All super-networks of a store: those that are whole, then the damaged, then the unfinished."""
    whole = [_entry(supernet, store, runs) for supernet in store.all()]
    damaged = [
        SupernetEntry(directory, None, None, _seen(partial(_bytes, directory)), "damaged, or of a newer release", ())
        for directory in store.damaged()
    ]
    unfinished = [
        SupernetEntry(
            directory,
            None,
            None,
            _seen(partial(_bytes, workspace_of(directory))),
            "being made" if busy(directory) else "unfinished",
            _users(directory, runs, store),
        )
        for directory in store.unfinished()
    ]
    return [*whole, *damaged, *unfinished]


def remove_supernet(name: str, runs: Path, store: SupernetStore) -> tuple[Path, int]:
    """Remove a super-network of the store, or what there is of an unfinished one: its directory, and the bytes freed.

    Raises UserError if there is no such one, while one is made, or while a run needs it.
    """
    begun = [directory for directory in store.unfinished() if name and directory.name.startswith(name)]
    damaged = [directory for directory in store.damaged() if name and directory.name.startswith(name)]
    others = [*begun, *damaged]
    directory = others[0] if len(others) == 1 and not store.matching(name) else store.named(name).directory
    if directory.resolve().parent != store.path.resolve():
        raise UserError(f"{directory}: doesn't lie in {store.path}; remove it yourself")
    users = store.users(directory, runs)
    if users:
        raise UserError(
            f"{directory}: needed by {', '.join(str(runs / user) for user in users)}; remove these runs first, "
            "which could not be continued without it"
        )
    freed = _bytes(directory, workspace_of(directory))
    store.remove(directory.resolve())
    return directory, freed


def _supernet_of(run: RunDirectory, store: SupernetStore) -> str | None:
    if not run.supernet.exists():
        return None
    target = run.supernet.resolve()
    if not run.supernet.is_symlink():
        return "its own"
    return target.name if target.parent == store.path.resolve() else str(target)


def _supernets_of_study(run: RunDirectory, _: SupernetStore) -> str | None:
    number = len(list((run.path / "supernets").glob("*")))
    return f"{number} of its own" if number else None


def _seen(look: Callable[[], T]) -> T | None:
    """What is found, or None where it may not be looked at: one that is another user's hides no other."""
    try:
        return look()
    except OSError:
        return None


def _users(directory: Path, runs: Path, store: SupernetStore) -> tuple[str, ...]:
    return _seen(lambda: tuple(store.users(directory, runs))) or ()


def _made(supernet: Supernet) -> str:
    return time.strftime("%Y-%m-%d", time.localtime((supernet.directory / "supernet.json").stat().st_mtime))


def _entry(supernet: Supernet, store: SupernetStore, runs: Path) -> SupernetEntry:
    return SupernetEntry(
        supernet.directory,
        supernet.manifest.base,
        supernet.manifest.training.steps,
        _seen(partial(_bytes, supernet.directory)),
        _seen(partial(_made, supernet)),
        _users(supernet.directory, runs, store),
    )


def _bytes(*directories: Path) -> int:
    files = (file for directory in directories if directory.is_dir() for file in directory.rglob("*"))
    return sum(file.stat().st_size for file in files if file.is_file())
