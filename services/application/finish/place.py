"""Where finished networks lie. Loads no model."""

import os
from pathlib import Path

from services.application.export.place import refuse_within
from services.application.run_directory import RunDirectory
from shared.errors import UserError
from shared.files import is_file, writing
from shared.manifest import FINISHED

PLACES = Path("finished")
"""Where they lie by default."""


def is_finished(directory: Path) -> bool:
    """Whether a directory holds a finished network."""
    return is_file(directory / FINISHED)


def default_place(run: str, network: str) -> Path:
    """Where a network goes of which nothing is said: finished/RUN-N5."""
    return PLACES / f"{run}-{network.replace(' ', '-')}"


def place_of(output: Path, run: RunDirectory) -> Path:
    """The directory, absolute. Raises UserError where none may lie, or something else does."""
    with writing(output):
        target = Path(os.path.realpath(output))
        refuse_within(output, target, run)
        taken = os.path.lexists(target) and not (target.is_dir() and (is_finished(target) or not any(target.iterdir())))
    if taken:
        raise UserError(f"{output}: exists already, and is no finished network; give another --output")
    return target
