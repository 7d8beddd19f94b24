"""Search and study files on disk: read with every mistake said in one line, written only if they can be read back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from shared.errors import UserError
from shared.files import write_atomically
from shared.settings.mistakes import explain
from shared.settings.search_file import SearchSettings
from shared.settings.study_file import StudySettings
from shared.settings.values import LONGEST_NAME, Section
from shared.text import shortened
from shared.yaml_text import NotYamlError, parse_yaml

MOST_BYTES = 100_000
"""Of a search or study file: a hundred tasks take a tenth of it."""

S = TypeVar("S", bound=Section)


@dataclass(frozen=True)
class _Kind(Generic[S]):
    """A kind of file, and what is said of it where it can't be read."""

    settings: type[S]
    name: str
    command: str
    mark: str
    """A key that every file of this kind has and none of the other."""
    start: str
    """How to get one, as a sentence's end."""
    correct: str
    """What to do about one that isn't YAML."""
    keys: str
    """What it needs to have, and where more is said."""


SEARCH = _Kind(
    settings=SearchSettings,
    name="search file",
    command="nasfarm search",
    mark="space",
    start="`nasfarm init MODEL` writes a search file",
    correct="let `nasfarm init MODEL` write a new one",
    keys="name, model, space and tasks; see `nasfarm init --help`",
)
STUDY = _Kind(
    settings=StudySettings,
    name="study file",
    command="nasfarm study",
    mark="supernets",
    start="deploy/studies has study files to begin with",
    correct="begin with one of deploy/studies",
    keys="name, model, supernets, tasks and sizes; see those in deploy/studies",
)


def read_search_file(path: Path) -> SearchSettings:
    """Read a search file. Raises UserError that names the file, the field and what is wrong with it."""
    return _read(path, SEARCH)


def read_study_file(path: Path) -> StudySettings:
    """Read a study file. Raises UserError that names the file, the field and what is wrong with it."""
    return _read(path, STUDY)


def _read(path: Path, kind: _Kind[S]) -> S:
    try:
        values = parse_yaml(_content(path, kind).decode())
    except FileNotFoundError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); {kind.start}") from error
    except PermissionError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); have its owner let you read it") from error
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); name another file") from error
    except (NotYamlError, UnicodeDecodeError) as error:
        reason = error if isinstance(error, NotYamlError) else "(it is not in UTF-8)"
        raise UserError(f"{path}: not valid YAML {reason}; correct it, or {kind.correct}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: a {kind.name} is a mapping with {kind.keys}")
    return _parse(values, str(path), kind)


def _content(path: Path, kind: _Kind[S]) -> bytes:
    """What is in a file. Raises UserError for one that is of no kind by its size: a network's weights, a device."""
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UserError(
            f"{path}: holds more than {MOST_BYTES:,} bytes, a {kind.name} has a few thousand; name another file"
        )
    return content


def parse_settings(values: dict[str, Any], where: str) -> SearchSettings:
    """Validate the content of a search file; `where` names it in the message."""
    return _parse(values, where, SEARCH)


def parse_study(values: dict[str, Any], where: str) -> StudySettings:
    """Validate the content of a study file; `where` names it in the message."""
    return _parse(values, where, STUDY)


def _parse(values: dict[str, Any], where: str, kind: _Kind[S]) -> S:
    try:
        return kind.settings.model_validate(values)
    except ValidationError as error:
        for other in (SEARCH, STUDY):
            if other.mark in values and kind.mark not in values:
                raise UserError(
                    f"{where}: this is a {other.name}, not a {kind.name}; give it to `{other.command}`"
                ) from error
        raise UserError(f"{where}: {explain(error)}") from error


def check_new_name(name: str) -> None:
    """Raise UserError if a search that begins now can't have the name; those of earlier releases keep theirs."""
    if len(name) > LONGEST_NAME:
        raise UserError(
            f"name: should have at most {LONGEST_NAME} characters, and has {len(name)} ({shortened(name, 40)}); "
            "shorten it in the search file"
        )


def write_search_file(path: Path, text: str) -> None:
    """Write a search file after checking that it can be read back."""
    check_new_name(parse_settings(parse_yaml(text), str(path)).name)
    write_atomically(path, text)
