"""What networks of a study could not be made, and why: a line for each, in a file beside the list of the others."""

import json
from collections.abc import Sequence

from services.application.study.study_directory import StudyDirectory
from shared.errors import UserError
from shared.files import write_atomically

FILE = "failed.json"


def write_failed(directory: StudyDirectory, lines: Sequence[str]) -> None:
    """Record what failed this time; what failed before was tried again."""
    write_atomically(directory.path / FILE, json.dumps(lines, indent=2) + "\n")


def read_failed(directory: StudyDirectory) -> tuple[str, ...]:
    """What failed; nothing in a study of an earlier release, which ended at the first failure. Raises UserError where
    the file is damaged."""
    path = directory.path / FILE
    try:
        lines = json.loads(path.read_bytes())
    except FileNotFoundError:
        return ()
    except ValueError as error:
        raise UserError(f"{path}: is damaged; run `nasfarm study` again") from error
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise UserError(f"{path}: is damaged; run `nasfarm study` again")
    return tuple(lines)
