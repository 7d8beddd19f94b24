"""Rows of data in files: JSON Lines or a JSON array, plain or gzipped, CSV and Parquet, read with errors that name the
row."""

import codecs
import csv
import gzip
import zlib
from pathlib import Path
from typing import IO, Any

from shared.errors import UserError, first_line
from shared.json_text import parse_json

ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet", ".csv")
"""Of the files that are looked for, the first first."""

Placed = tuple[str, dict[str, Any]]
"""The place where a person finds a row, and the row."""


def find_rows(directory: Path, name: str) -> Path | None:
    """The file of that name with one of `ENDINGS` in a directory, or as the hub's snapshots have it, in one part;
    None if there is none."""
    shard = f"{name}-00000-of-00001.parquet"
    candidates = [directory / f"{name}{ending}" for ending in ENDINGS]
    candidates += [directory / shard, directory / "data" / shard]
    return next((path for path in candidates if path.is_file()), None)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a file.

    Raises UserError if the file can't be read, is empty, or a row is no object.
    """
    return [row for _, row in placed_rows(path)]


def placed_rows(path: Path) -> list[Placed]:
    """All rows of a file, each with its place: the file and the line, or the number of the row. Raises what `read_rows`
    does."""
    try:
        if path.suffix == ".parquet":
            rows = _of_parquet(path)
        else:
            with _opened(path) as file:
                rows = _of_csv(file, path) if path.suffix == ".csv" else _of_json(file, path)
    except (OSError, EOFError, UnicodeError, zlib.error) as error:
        raise UserError(f"{path}: can't be read ({error}); check the path or fetch the file again") from error
    if not rows:
        raise UserError(f"{path}: holds no rows; fetch the file again or name another one")
    return rows


def _opened(path: Path) -> IO[str]:
    """The text of a file, in the encoding that its first bytes name; UTF-8 if they name none."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        marked = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    text: IO[str] = opener(path, "rt", encoding="utf-16" if marked else "utf-8-sig", newline=None)
    return text


def _of_json(file: IO[str], path: Path) -> list[Placed]:
    rows: list[Placed] = []
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        if not rows and line.lstrip().startswith("["):
            return _of_array(line + file.read(), path)
        where = f"{path}:{number}"
        rows.append((where, _object(_parsed(line, where), where)))
    return rows


def _of_array(text: str, path: Path) -> list[Placed]:
    """The rows of a file that is one JSON array, as Alpaca's is."""
    found = _parsed(text, str(path))
    places = (f"{path} row {number}" for number in range(1, len(found) + 1))
    return [(place, _object(row, place)) for place, row in zip(places, found, strict=True)]


def _parsed(text: str, where: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({first_line(error)}); mend or remove the line") from error


def _object(row: object, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise UserError(f"{where}: not a JSON object; mend or remove the line")
    return row


def _of_csv(file: IO[str], path: Path) -> list[Placed]:
    """Rows under the names in the first line. What looks like a JSON array or object is one: CSV has no other."""
    reader = csv.DictReader(file)
    rows: list[Placed] = []
    try:
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if None in row or None in row.values():
                raise UserError(f"{where}: has more or fewer values than the first line has names; mend the line")
            rows.append((where, {name: _nested(value) for name, value in row.items()}))
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not CSV ({error}); mend the line") from error
    return rows


def _nested(value: str) -> Any:
    if value[:1] in ("[", "{"):
        try:
            return parse_json(value)
        except ValueError:
            return value
    return value


def _of_parquet(path: Path) -> list[Placed]:
    import pyarrow  # what reads nothing but JSON does without it
    from pyarrow import parquet

    try:
        found = parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise UserError(f"{path}: no readable Parquet file ({first_line(error)}); fetch it again") from error
    return [(f"{path} row {number}", row) for number, row in enumerate(found, start=1)]
