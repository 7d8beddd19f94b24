"""JSON Lines files, plain or gzipped, read with errors that name the line."""

import gzip
import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shared.errors import UserError


def find_rows(directory: Path, name: str) -> Path | None:
    """`name.jsonl` or `name.jsonl.gz` in a directory, or None."""
    candidates = (directory / f"{name}.jsonl", directory / f"{name}.jsonl.gz")
    return next((path for path in candidates if path.is_file()), None)


def read_rows(path: Path, required: Iterable[str] = ()) -> list[dict[str, Any]]:
    """All rows of a JSON Lines file.

    Raises UserError if the file can't be read, is empty, or a row is no object or lacks one of the `required` keys.
    """
    keys = tuple(required)
    opener = gzip.open if path.suffix == ".gz" else open
    rows: list[dict[str, Any]] = []
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    rows.append(_row(line, keys, f"{path}:{number}"))
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise UserError(f"{path}: can't be read ({error}); check the path or fetch the file again") from error
    if not rows:
        raise UserError(f"{path}: holds no rows; fetch the file again or name another one")
    return rows


def _row(line: str, required: tuple[str, ...], where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error}); mend or remove the line") from error
    missing = [key for key in required if not isinstance(row, dict) or key not in row]
    if missing or not isinstance(row, dict):
        raise UserError(f"{where}: lacks {', '.join(missing) or 'the form of an object'}; mend or remove the line")
    return row
