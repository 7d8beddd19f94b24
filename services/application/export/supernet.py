"""The super-network that a run's networks are cut out of, known by its digest, from wherever it lies."""

from collections.abc import Iterator

from services.application.checkpoint_content import content_of
from services.application.export.searched_run import SearchedRun
from services.application.supernet_store import Supernet, SupernetStore, is_supernet
from shared.checkpoint_files import FileDigests, has_digest
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events
from shared.manifest import MANIFEST
from shared.supernet.source import fetch_checkpoint


def supernet_of(run: SearchedRun, location: str | None, environment: Environment, events: Events) -> Supernet:
    """The super-network that a run was measured with: at `location`, a directory or URL, which is fetched as an
    evaluator fetches it, or where the run, the directory beside the runs or this machine's evaluators have it.

    Raises UserError where it is missing or can't be fetched, where its weights are missing, and where its files are
    not those that the run was measured with.
    """
    digest = run.plan.supernet.digest
    supernet = _fetched(location, digest, environment, events) if location is not None else None
    if supernet is None:
        found = {each.directory.resolve(): each for each in _at_hand(run, environment)}
        supernet = next((each for each in found.values() if each.manifest.digest == digest), None)
    if supernet is None:
        raise UserError(
            f"{run.directory.supernet}: the super-network {digest} of this run isn't here; fetch it from whoever made "
            "it, and name its directory or URL with --supernet"
        )
    _verify(supernet, digest, environment, events)
    return supernet


def _fetched(location: str, digest: str, environment: Environment, events: Events) -> Supernet:
    with events.step("Super-network", note="fetching"):
        directory = fetch_checkpoint(location, digest, environment.cache)
    supernet = Supernet.read(directory)
    if supernet.manifest.digest != digest:
        raise UserError(
            f"{directory}: is another super-network, {supernet.manifest.digest}, than the run was measured with, "
            f"{digest}; name that one with --supernet"
        )
    return supernet


def _at_hand(run: SearchedRun, environment: Environment) -> Iterator[Supernet]:
    own = run.directory.supernet.resolve()
    if is_supernet(own):
        yield Supernet.read(own)
    yield from SupernetStore(run.directory.path.resolve().parent.parent / "supernets").all()
    yield from SupernetStore(environment.cache / "checkpoints").all()


def _verify(supernet: Supernet, digest: str, environment: Environment, events: Events) -> None:
    """What only the coordinator of a farm needs of a super-network has no weights."""
    missing = [name for name in supernet.manifest.files if not (supernet.directory / name).is_file()]
    if missing:
        raise UserError(
            f"{supernet.directory}: {missing[0]} is missing; fetch the whole super-network from whoever made it, or "
            "name another place where it lies with --supernet"
        )
    files = content_of(supernet.directory, FileDigests(environment.cache), events)
    if not has_digest(files, digest):
        changed = next((name for name, known in supernet.manifest.files.items() if files.get(name) != known), "a file")
        raise UserError(
            f"{supernet.directory}: {changed} has changed since {MANIFEST} was written, so that this is no longer the "
            "network that was measured; copy the super-network again, or name another place with --supernet"
        )
