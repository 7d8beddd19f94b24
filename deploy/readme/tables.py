"""The README's tables of the search file's keys and of the variables, made of the settings' own descriptions.

`python -m deploy.readme.tables README.md` writes them again, between the lines that mark them.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from shared.environment import Environment, variable
from shared.files import write_atomically
from shared.settings import SearchSettings
from shared.settings.commented import plain_value
from shared.settings.values import Section

DEFAULTS = {
    "data": "`../shared/data` in `make` if it is there",
    "cache": "`nasfarm` in `XDG_CACHE_HOME`, else `~/.cache/nasfarm`",
    "threads": "the cores that the process may use",
    "gpu_locks": "`gpus` in the cache",
}
"""In words, those that are found out."""


def search_file_table() -> str:
    """Every key of the search file: its default and what it means."""
    rows = list(_keys(SearchSettings, ""))
    return _table(("key", "default", "meaning"), rows)


def environment_table() -> str:
    """Every variable: what it means and its default."""
    rows = [
        (f"`{variable(name)}`", field.description or "", DEFAULTS.get(name) or _default(field.default))
        for name, field in Environment.model_fields.items()
    ]
    return _table(("variable", "meaning", "default"), rows)


TABLES = {"search file": search_file_table, "environment": environment_table}


def with_tables(text: str) -> str:
    """A Markdown text with each table that it marks the place of."""
    for name, table in TABLES.items():
        start, end = (rf"(?<=<!-- {name}: made by `make reference` -->\n)", rf"(?=<!-- end of {name} -->)")
        text = re.sub(f"{start}.*?{end}", table().replace("\\", r"\\"), text, flags=re.DOTALL)
    return text


def _keys(section: type[Section], above: str) -> Iterator[tuple[str, str, str]]:
    for key, field in section.model_fields.items():
        within = section.section(key)
        shown = "required" if field.is_required() else "" if within is not None else _default(field.default)
        yield f"`{above}{key}`", shown, section.described(key)
        if within is not None:
            yield from _keys(within, f"{above}{key}{'[]' if key == 'tasks' else ''}.")


def _default(value: Any) -> str:
    return "" if value is None or value == () else f"`{plain_value(value)}`"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def main(arguments: list[str]) -> None:
    """Write the tables of each file again."""
    for name in arguments:
        path = Path(name)
        write_atomically(path, with_tables(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main(sys.argv[1:])
