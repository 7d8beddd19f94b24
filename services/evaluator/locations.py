"""Which checkpoints an evaluator of a farm opens: the right to send requests is no right to its files, its network and
its credentials."""

from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from shared.errors import UserError
from shared.files import is_directory, user_path
from shared.messages import CheckpointRef
from shared.text import without_users

DIRECTORY_URLS = ("file://", "local://")
"""How URLs begin that name directories of this machine."""


class AllowedLocations:
    """What requests may name: what lies at or below a location that the evaluator was started with.

    Args:
        allowed: directories, URLs, ids at the hub.
        known: by digest, where checkpoints are that are allowed whatever location the request names: another machine
            may have them under another path.
    """

    def __init__(self, allowed: Sequence[str], known: Mapping[str, str]) -> None:
        self._allowed, self._known = tuple(allowed), dict(known)

    def of(self, reference: CheckpointRef) -> str:
        """Where to open a checkpoint. Raises UserError for one that is not allowed."""
        if any(is_below(reference.location, each) for each in self._allowed):
            return reference.location
        if reference.digest in self._known:
            return self._known[reference.digest]
        raise UserError(
            f"{without_users(reference.location)}: this evaluator may open no checkpoint there; start it with that, or "
            "what is above it, in NASFARM_LOCATIONS"
        )


def is_below(location: str, above: str) -> bool:
    """Whether a location is another one or lies below it: as directories, where links lead; else by their names, in
    which nothing leads up. What leads nowhere, as a link to itself, is below nothing."""
    try:
        if "://" in location or "://" in above:
            steps = unquote(location).split("/")
            named = "::" not in location and not {".", ".."} & set(steps) and _begins(location, above)
            scheme = next((each for each in DIRECTORY_URLS if above.startswith(each)), None)
            return named and (scheme is None or _leads_below(*(each[len(scheme) :] for each in (location, above))))
        paths = user_path(location), user_path(above)
        if any(path.is_absolute() for path in paths) or is_directory(paths[1]):
            return _leads_below(location, above)
        return not {".", ".."} & set(location.split("/")) and _begins(location, above)
    except (OSError, RuntimeError, ValueError):
        return False


def _leads_below(location: str, above: str) -> bool:
    return user_path(location).resolve().is_relative_to(user_path(above).resolve())


def _begins(location: str, above: str) -> bool:
    return f"{location.rstrip('/')}/".startswith(f"{above.rstrip('/')}/")
