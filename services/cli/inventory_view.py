"""`nasfarm status` without a run, and `nasfarm remove`: the runs and the super-networks of this machine."""

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from services.application import inventory
from services.application.inventory import RunEntry, SupernetEntry, runs_in, supernets_in
from services.application.supernet_store import DIGEST, SupernetStore
from services.cli.console import console
from services.reporting.wording import size

SHOWN_DIGEST = 12
NOTHING = "–"


def show_all(runs: Path, store: SupernetStore) -> None:
    """Show all runs, and all super-networks with their size and who uses them."""
    found, supernets = runs_in(runs, store), supernets_in(store, runs)
    if not found and not supernets:
        console.print(f"There is nothing in {runs} and {store.path}; `nasfarm search` begins a search.")
        return
    if found:
        table = Table("Run", "State", "Super-network", box=SIMPLE_HEAD, show_edge=False)
        for run in found:
            table.add_row(*_run_row(run))
        console.print(table)
    if supernets:
        table = Table("Super-network", "Model", "Steps", "Size", "Made", "Used by", box=SIMPLE_HEAD, show_edge=False)
        for supernet in supernets:
            table.add_row(*_supernet_row(supernet))
        console.print(table)


def remove_supernet(name: str, runs: Path, store: SupernetStore) -> None:
    """Remove a super-network of the store, or what there is of an unfinished one; errors as of the application's."""
    directory, freed = inventory.remove_supernet(name, runs, store)
    console.print(f"{directory} is removed: {size(freed)}.")


def _run_row(run: RunEntry) -> tuple[str, str, str]:
    supernet = run.supernet or NOTHING
    return run.name, run.state, supernet[:SHOWN_DIGEST] if DIGEST.fullmatch(supernet) else supernet


def _supernet_row(entry: SupernetEntry) -> tuple[str, ...]:
    return (
        entry.directory.name[:SHOWN_DIGEST],
        entry.model or NOTHING,
        NOTHING if entry.steps is None else str(entry.steps),
        NOTHING if entry.bytes is None else size(entry.bytes),
        entry.made or NOTHING,
        ", ".join(entry.users) or NOTHING,
    )
