"""JSON Lines files, plain or gzipped, read with errors that name the line."""

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from shared.errors import UserError


def find_rows(directory: Path, name: str) -> Path | None:
    """`name.jsonl` or `name.jsonl.gz` in a directory, or None."""
    candidates = (directory / f"{name}.jsonl", directory / f"{name}.jsonl.gz")
    return next((path for path in candidates if path.is_file()), None)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a JSON Lines file.

    Raises UserError if the file can't be read, is empty, or a row is no object.
    """
    return [row for _, row in numbered_rows(path)]


def numbered_rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """All rows of a JSON Lines file, each with the number of its line. Raises what `read_rows` does."""
    opener = gzip.open if path.suffix == ".gz" else open
    rows: list[tuple[int, dict[str, Any]]] = []
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    rows.append((number, _row(line, f"{path}:{number}")))
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise UserError(f"{path}: can't be read ({error}); check the path or fetch the file again") from error
    if not rows:
        raise UserError(f"{path}: holds no rows; fetch the file again or name another one")
    return rows


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({error}); mend or remove the line") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: not a JSON object; mend or remove the line")
    return row
