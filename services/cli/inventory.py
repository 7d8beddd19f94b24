"""`nasfarm status` without a run, and `nasfarm remove`: the runs and the super-networks of this machine."""

import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from services.application.run_directory import RunDirectory
from services.application.supernet_store import Supernet, SupernetStore, busy, workspace_of
from services.cli.console import console
from services.cli.inspect import fine_tuning_of
from services.coordinator.history import History
from services.reporting.wording import size
from shared.errors import UserError

SHOWN_DIGEST = 12
NOTHING = "–"


def show_all(runs: Path, store: SupernetStore) -> None:
    """Show all runs, and all super-networks with their size and who uses them."""
    found = [RunDirectory(file.parent) for file in sorted(runs.glob("*/search.yaml"))]
    supernets, damaged, unfinished = store.all(), store.damaged(), store.unfinished()
    there = bool(supernets or damaged or unfinished)
    if not found and not there:
        console.print(f"There is nothing in {runs} and {store.path}; `nasfarm search` begins a search.")
        return
    if found:
        table = Table("Run", "State", "Super-network", box=SIMPLE_HEAD, show_edge=False)
        for run in found:
            try:
                state = _state(run)
            except UserError as error:
                state = str(error)
            except PermissionError as error:  # somebody else's
                state = f"can't be read ({error.strerror})"
            table.add_row(run.path.name, state, _seen(partial(_supernet_of, run, store)))
        console.print(table)
    if there:
        table = Table("Super-network", "Model", "Steps", "Size", "Made", "Used by", box=SIMPLE_HEAD, show_edge=False)
        for supernet in supernets:
            table.add_row(*_row(supernet, _users(supernet.directory, runs, store)))
        for directory in damaged:
            state = "damaged, or of a newer release"
            room = _seen(partial(_room, directory))
            table.add_row(directory.name[:SHOWN_DIGEST], NOTHING, NOTHING, room, state, NOTHING)
        for directory in unfinished:
            users = _users(directory, runs, store)
            state = "being made" if busy(directory) else "unfinished"
            room = _seen(partial(_room, workspace_of(directory)))
            table.add_row(directory.name[:SHOWN_DIGEST], NOTHING, NOTHING, room, state, users)
        console.print(table)


def remove_supernet(name: str, runs: Path, store: SupernetStore) -> None:
    """Remove a super-network of the store, or what there is of an unfinished one.

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
    room = _room(directory, workspace_of(directory))
    store.remove(directory.resolve())
    console.print(f"{directory} is removed: {room}.")


def _state(run: RunDirectory) -> str:
    if (run.path / "report.html").is_file():
        return "report written"
    if not run.history.is_file():
        return f"fine-tuning: {fine_tuning_of(run, run.settings().training.steps)}"
    with closing(History.read(run.history)) as history:
        return f"searching: {history.asked()} of {run.settings().search.evaluations} networks asked for"


def _supernet_of(run: RunDirectory, store: SupernetStore) -> str:
    if not run.supernet.exists():
        return NOTHING
    target = run.supernet.resolve()
    if not run.supernet.is_symlink():
        return "its own"
    return target.name[:SHOWN_DIGEST] if target.parent == store.path.resolve() else str(target)


def _seen(tell: Callable[[], str]) -> str:
    """What is told, or NOTHING where it can't be: one that is somebody else's hides no other."""
    try:
        return tell()
    except OSError:
        return NOTHING


def _users(directory: Path, runs: Path, store: SupernetStore) -> str:
    return _seen(lambda: ", ".join(store.users(directory, runs))) or NOTHING


def _made(supernet: Supernet) -> str:
    return time.strftime("%Y-%m-%d", time.localtime((supernet.directory / "supernet.json").stat().st_mtime))


def _row(supernet: Supernet, users: str) -> list[str]:
    manifest = supernet.manifest
    return [
        supernet.directory.name[:SHOWN_DIGEST],
        manifest.base,
        str(manifest.training.steps),
        _seen(partial(_room, supernet.directory)),
        _seen(partial(_made, supernet)),
        users,
    ]


def _room(*directories: Path) -> str:
    files = (file for directory in directories if directory.is_dir() for file in directory.rglob("*"))
    return size(sum(file.stat().st_size for file in files if file.is_file()))
