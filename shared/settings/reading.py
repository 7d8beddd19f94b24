"""Search files on disk: read with every mistake said in one line, written only if they can be read back."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shared.errors import UserError
from shared.files import write_atomically
from shared.settings.mistakes import explain
from shared.settings.search_file import SearchSettings
from shared.text import shortened
from shared.yaml_text import NotYamlError, parse_yaml

LONGEST_NAME = 100
"""Characters that a new search's name may have: files, queues and containers are named after it, and longer."""
MOST_BYTES = 100_000
"""Of a search file: a hundred tasks take a tenth of it."""


def read_search_file(path: Path) -> SearchSettings:
    """Read a search file. Raises UserError that names the file, the field and what is wrong with it."""
    try:
        values = parse_yaml(_content(path).decode())
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: can't be read ({error.strerror}); `nasfarm init MODEL` writes a search file"
        ) from error
    except PermissionError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); have its owner let you read it") from error
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); name another file") from error
    except (NotYamlError, UnicodeDecodeError) as error:
        reason = error if isinstance(error, NotYamlError) else "(it is not in UTF-8)"
        raise UserError(
            f"{path}: not valid YAML {reason}; correct it, or let `nasfarm init MODEL` write a new one"
        ) from error
    if not isinstance(values, dict):
        raise UserError(
            f"{path}: a search file is a mapping with name, model, space and tasks; see `nasfarm init --help`"
        )
    return parse_settings(values, str(path))


def _content(path: Path) -> bytes:
    """What is in a search file. Raises UserError for one that is none by its size: a network's weights, a device."""
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UserError(
            f"{path}: holds more than {MOST_BYTES:,} bytes, a search file has a few thousand; name another file"
        )
    return content


def parse_settings(values: dict[str, Any], where: str) -> SearchSettings:
    """Validate the content of a search file; `where` names it in the message."""
    try:
        return SearchSettings.model_validate(values)
    except ValidationError as error:
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
