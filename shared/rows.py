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
"""Of the files that are looked for, in this order."""

LocatedRow = tuple[str, dict[str, Any]]
"""Where a row is, for messages (file and line), and the row."""


def find_rows_file(directory: Path, name: str) -> Path | None:
    """The file of that name with one of `ENDINGS` in a directory, or as the hub's snapshots have it, in one part;
    None if there is none."""
    shard = f"{name}-00000-of-00001.parquet"
    candidates = [directory / f"{name}{ending}" for ending in ENDINGS]
    candidates += [directory / shard, directory / "data" / shard]
    return next((path for path in candidates if path.is_file()), None)


def hub_folders(dataset: str, config: str | None) -> list[str]:
    """Where a data set of the hub, OWNER/NAME, and a configuration of it lie in a directory of data, by preference."""
    name = dataset.rsplit("/", 1)[-1]
    return [name] if config is None else [f"{name}/{config}", name]


def located_rows(path: Path) -> list[LocatedRow]:
    """All rows of a file, each with its place: the file and the line, or the number of the row.

    Raises UserError if the file can't be read, is empty, or a row is not an object.
    """
    try:
        if path.suffix == ".parquet":
            rows = _of_parquet(path)
        else:
            with _opened(path) as file:
                rows = _of_csv(file, path) if path.suffix == ".csv" else _of_json(file, path)
    except (OSError, EOFError, UnicodeError, zlib.error) as error:
        raise UserError(f"{path}: can't be read ({error}); check the path or fetch the file again") from error
    if not rows:
        raise UserError(f"{path}: has no rows; fetch the file again or name another one")
    return rows


def _opened(path: Path) -> IO[str]:
    """The text of a file, in the encoding that its first bytes name; UTF-8 if they name none."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        marked = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    text: IO[str] = opener(path, "rt", encoding="utf-16" if marked else "utf-8-sig", newline=None)
    return text


def _of_json(file: IO[str], path: Path) -> list[LocatedRow]:
    rows: list[LocatedRow] = []
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        if not rows and line.lstrip().startswith("["):
            return _of_array(line + file.read(), path)
        where = f"{path}:{number}"
        rows.append((where, _object(_parsed(line, where), where)))
    return rows


def _of_array(text: str, path: Path) -> list[LocatedRow]:
    """The rows of a file that is one JSON array, as Alpaca's is."""
    found = _parsed(text, str(path))
    places = (f"{path} row {number}" for number in range(1, len(found) + 1))
    return [(place, _object(row, place)) for place, row in zip(places, found, strict=True)]


def _parsed(text: str, where: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({first_line(error)}); fix or remove the line") from error


def _object(row: object, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise UserError(f"{where}: not a JSON object; fix or remove the line")
    return row


def _of_csv(file: IO[str], path: Path) -> list[LocatedRow]:
    """Rows under the names in the first line. What looks like a JSON array or object is one: CSV has no other."""
    reader = csv.DictReader(file)
    rows: list[LocatedRow] = []
    try:
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if None in row or None in row.values():
                raise UserError(f"{where}: has more or fewer values than the first line has names; fix the line")
            rows.append((where, {name: _nested(value) for name, value in row.items()}))
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not CSV ({error}); fix the line") from error
    return rows


def _nested(value: str) -> Any:
    if value[:1] in ("[", "{"):
        try:
            return parse_json(value)
        except ValueError:
            return value
    return value


def _of_parquet(path: Path) -> list[LocatedRow]:
    import pyarrow  # not needed for JSON
    from pyarrow import parquet

    try:
        found = parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise UserError(f"{path}: not a readable Parquet file ({first_line(error)}); fetch it again") from error
    return [(f"{path} row {number}", row) for number, row in enumerate(found, start=1)]
