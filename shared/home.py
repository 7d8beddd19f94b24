"""The user's home directory, also where there is none.

A user without an entry in the table of users (a container that runs under any number, a batch system) may have neither
a home nor a name. Libraries find that out in the middle of their work, and some then make a directory called `~`.
"""

import logging
import os
import pwd
from pathlib import Path


def home() -> Path | None:
    """The user's home directory; None where there is none, and none can be made."""
    entry = _entry()
    named = os.environ.get("HOME") or (entry.pw_dir if entry is not None else "")
    path = Path(named)
    return path if path.is_absolute() and can_be_there(path) else None


def _entry() -> pwd.struct_passwd | None:
    """The user's entry in the table of users."""
    try:
        return pwd.getpwuid(os.getuid())
    except KeyError:
        return None


def can_be_there(directory: Path) -> bool:
    """Whether a directory is there, or may be made by us."""
    place = nearest(directory)
    return can_see_directory(place) and (place == directory or os.access(place, os.W_OK | os.X_OK))


def nearest(path: Path) -> Path:
    """A path, or of the directories above it the first that is there; itself where that can't be said."""
    try:
        return next(each for each in (path, *path.parents) if each.exists())
    except OSError:  # behind a directory that may not be looked into, or no possible name
        return path


def can_see_directory(path: Path) -> bool:
    """Whether a path is a directory that we may know of."""
    try:
        return path.is_dir()
    except OSError:  # behind a directory that may not be looked into, or no possible name
        return False


def prepare_home() -> None:
    """Give libraries a home, in the place that was chosen for what is kept, and a name, where the user has none."""
    if home() is None:
        chosen = os.environ.get("NASFARM_CACHE") or os.environ.get("XDG_CACHE_HOME")
        if chosen:
            os.environ["HOME"] = str(Path(chosen).absolute())
    if (place := home()) is None or not os.access(nearest(place), os.W_OK):
        logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns that it can keep nothing there
    if _entry() is None:
        os.environ.setdefault("USER", str(os.getuid()))  # `getpass.getuser` would raise
