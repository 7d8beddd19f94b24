"""The README's tables of the search and study files' keys and of the variables, made of the settings' own descriptions.

`python -m deploy.readme.tables README.md` writes them again, between the lines that mark them.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from shared.environment import Environment, variable
from shared.files import write_atomically
from shared.settings import SearchSettings, StudySettings
from shared.settings.commented import plain_value
from shared.settings.values import Section

DEFAULTS = {
    "data": "`../shared/data` in `make` if it is there",
    "cache": "`nasfarm` in `XDG_CACHE_HOME`, else `~/.cache/nasfarm`",
    "threads": "the cores that the process may use",
    "gpu_locks": "`gpus` in the cache",
}
"""In words, those that are found out."""
CHOSEN_BY = "baseline"
"""The key that says which of several sections it is; only baselines have a choice."""


def search_file_table() -> str:
    """Every key of the search file: its default and what it means."""
    rows = list(_keys(SearchSettings, ""))
    return _table(("key", "default", "meaning"), rows)


def study_file_table() -> str:
    """Every key of the study file that a search file doesn't have: its default and what it means."""
    rows = list(_keys(StudySettings, "", known=(SearchSettings, *SearchSettings.sections())))
    return _table(("key", "default", "meaning"), rows)


def environment_table() -> str:
    """Every variable: what it means and its default."""
    rows = [
        (f"`{variable(name)}`", field.description or "", DEFAULTS.get(name) or _default(field.default))
        for name, field in Environment.model_fields.items()
    ]
    return _table(("variable", "meaning", "default"), rows)


TABLES = {"search file": search_file_table, "study file": study_file_table, "environment": environment_table}


def with_tables(text: str) -> str:
    """A Markdown text with each table that it marks the place of."""
    for name, table in TABLES.items():
        start, end = (rf"(?<=<!-- {name}: made by `make reference` -->\n)", rf"(?=<!-- end of {name} -->)")
        text = re.sub(f"{start}.*?{end}", table().replace("\\", r"\\"), text, flags=re.DOTALL)
    return text


def _keys(section: type[Section], above: str, known: Sequence[type[Section]] = ()) -> Iterator[tuple[str, str, str]]:
    """A row for each key of a section and of those within it; of sections that are `known`, none for theirs."""
    for key, field in section.model_fields.items():
        alternatives = section.alternatives(key)
        shown = "required" if field.is_required() else "" if alternatives else _default(field.default)
        yield f"`{above}{key}`", shown, section.described(key)
        below = f"{above}{key}{'[]' if section.lists(key) else ''}."
        if len(alternatives) > 1:
            yield from _choices(alternatives, below)
        elif alternatives and alternatives[0] not in known:
            yield from _keys(alternatives[0], below, known)


def _choices(alternatives: Sequence[type[Section]], above: str) -> Iterator[tuple[str, str, str]]:
    """A row for each section that there is to choose from, and for each of their other keys, one for all that share it
    and its default."""
    shared: dict[tuple[str, str, str], list[str]] = {}
    for section in alternatives:
        tag = section.model_fields[CHOSEN_BY].default
        yield f"`{above}{CHOSEN_BY}: {tag}`", "", " ".join((section.__doc__ or "").split())
        for key, field in section.model_fields.items():
            if key != CHOSEN_BY:
                row = (f"`{above}{key}`", _default(field.default), section.described(key))
                shared.setdefault(row, []).append(f"`{tag}`")
    for (key, default, meaning), tags in shared.items():
        yield key, default, f"Of {', '.join(tags)}: {meaning[0].lower()}{meaning[1:]}"


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
