"""A search file with a comment at each key: keys that are given, and all others commented out with their defaults."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from shared.settings.search_file import SearchSettings
from shared.settings.values import Section
from shared.yaml_text import format_yaml

WIDTH = 120
"""Characters of a line; a comment that makes it longer stands in a line before."""
OWN_WORDS = ("name", "model")
"""Keys whose values are people's own, of any characters."""


def commented_search_file(values: Mapping[str, Any], notes: Mapping[str, str]) -> str:
    """The text of a search file with these values; `notes` says more of some keys, such as `space.depths`."""
    lines = list(_lines(SearchSettings, values, notes))
    return "".join(f"{line}\n" for line in lines)


def _lines(
    section: type[Section],
    values: Mapping[str, Any] | None,
    notes: Mapping[str, str],
    path: str = "",
    indent: str = "",
) -> Iterator[str]:
    """A section's lines; `values` is None for one that is commented out as a whole."""
    after_section = False
    for key in section.model_fields:
        given = values is not None and key in values
        start = f"# {indent}" if values is None else f"{indent}{'' if given else '# '}"
        comment = "; ".join(filter(None, (section.summary(key).removesuffix("."), notes.get(f"{path}{key}"))))
        within = section.section(key)
        if not path and (within is not None or after_section):
            yield ""
        after_section = within is not None
        if within is None:
            value = values[key] if values is not None and given else _default(section, key)
            line = f"{start}{key}: {quoted_text(value) if not path and key in OWN_WORDS else plain_value(value)}"
            if len(f"{line} # {comment}") <= WIDTH:
                yield f"{line} # {comment}"
            else:
                yield from (f"{'# ' if values is None else ''}{indent}# {comment}", line)
            continue
        yield f"{start}{key}: # {comment}"
        inner = values[key] if values is not None and given else None
        if isinstance(inner, list):
            for each in inner:
                first, *others = _lines(within, each, notes, f"{path}{key}.", f"{indent}    ")
                yield f"{indent}  - {first.strip()}"
                yield from others
        else:
            yield from _lines(within, inner, notes, f"{path}{key}.", f"{indent}  ")


def _default(section: type[Section], key: str) -> Any:
    """What a key has where it isn't given; an example where that is nothing."""
    field = section.model_fields[key]
    return field.default if field.default is not None else (field.examples or [None])[0]


def plain_value(value: Any) -> str:
    """A value as YAML has it in one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(plain_value, value))}]"
    return format_yaml(value).splitlines()[0]


def quoted_text(text: str) -> str:
    """A text as YAML has it in double quotes: JSON's escapes and, of what can't be printed, YAML's own."""
    return without_unprintable(json.dumps(text, ensure_ascii=False))


def without_unprintable(text: str) -> str:
    """A text with YAML's escapes for what YAML would not read, as in a comment."""
    return "".join(character if character.isprintable() else f"\\U{ord(character):08x}" for character in text)
