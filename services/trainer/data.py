"""Instruction data: where they come from, and which of their rows can be trained on."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from shared import facts
from shared.digest import digest_json
from shared.environment import Environment
from shared.errors import UserError
from shared.files import is_file, user_path
from shared.rows import find_rows_file, located_rows
from shared.text import shown

ALPACA_HUB = "tatsu-lab/alpaca"
REQUIRED = {"instruction": True, "input": False, "output": True}
"""The fields of Alpaca's schema, and whether a row can't do without one."""

OTHER_FORMATS = {
    frozenset({"conversations"}): "it looks like ShareGPT's (conversations): give each turn as a row with instruction, "
    "input and output",
    frozenset(
        {"messages"}
    ): "it looks like chats (messages): give each turn as a row with instruction, input and output",
    frozenset({"instruction", "response"}): "it has Dolly's names: rename response to output, and context to input",
    frozenset({"prompt", "completion"}): "rename prompt to instruction, and completion to output",
    frozenset({"question", "answer"}): "rename question to instruction, and answer to output",
}
"""By the fields of data in other formats, how to convert them to Alpaca's."""

InstructionRow = dict[str, str]


@dataclass(frozen=True)
class Instructions:
    """Rows in Alpaca's schema, where they came from, and the digest of their content.

    `left_out`: a message about the rows that can't be trained on; empty where there are none.
    """

    rows: tuple[InstructionRow, ...]
    origin: str
    left_out: str = ""

    @property
    def digest(self) -> str:
        """Identity of the data."""
        return digest_json(self.rows)


class _UnusableError(Exception):
    """A row that can't be trained on; the message says why, and continues a number of such rows ("3 rows ...")."""


def load_instructions(name: str, environment: Environment) -> Instructions:
    """Instruction data by the name a search file gives it: `alpaca`, `plain_facts` or a file.

    Raises UserError where it can't be loaded.
    """
    if name == "plain_facts":
        built_in = ((f"row {number}", row) for number, row in enumerate(facts.instructions(), start=1))
        return _usable(built_in, "the built-in instructions (plain facts)")
    if name == "alpaca":
        return _alpaca(environment)
    path = user_path(name)
    if not is_file(path):
        raise UserError(
            f"training.data: {shown(name)} is neither 'alpaca', 'plain_facts' nor a JSON Lines file; "
            "change the search file"
        )
    return _usable(located_rows(path), str(path))


def _alpaca(environment: Environment) -> Instructions:
    if environment.data is not None:
        folder = environment.data / "alpaca"
        names = sorted({path.name.split(".jsonl")[0] for path in folder.glob("*.jsonl*")})
        files = [path for name in names if (path := find_rows_file(folder, name))]
        if files:
            return _usable((row for path in files for row in located_rows(path)), f"Alpaca from {folder}")
    try:
        from datasets import load_dataset  # slow to import, and only needed here

        found = list(load_dataset(ALPACA_HUB, split="train"))
    except (OSError, ValueError) as error:
        raise UserError(
            "training.data: alpaca is neither in NASFARM_DATA nor can it be fetched from the hub; "
            "set NASFARM_DATA, or use plain_facts, the built-in data"
        ) from error
    located = ((f"{ALPACA_HUB} row {number}", row) for number, row in enumerate(found, start=1))
    return _usable(located, f"{ALPACA_HUB} from the hub")


def _usable(rows: Iterable[tuple[str, Mapping[str, Any]]], origin: str) -> Instructions:
    """The rows that can be trained on, of rows with their places, and a message about the others. Raises UserError if
    there are only others."""
    kept: list[InstructionRow] = []
    reasons: Counter[str] = Counter()
    first = ""
    seen: set[str] = set()
    for place, row in rows:
        seen |= row.keys()
        try:
            kept.append(_row(row))
        except _UnusableError as unusable:
            first = first or place
            reasons[str(unusable)] += 1
    left_out = _in_words(reasons, first) if reasons else ""
    if not kept:
        remedy = next((remedy for fields, remedy in OTHER_FORMATS.items() if fields <= seen), "name another file")
        raise UserError(f"training.data: {origin} has no row with an instruction and an output; {remedy} ({left_out})")
    return Instructions(tuple(kept), origin, left_out)


def _row(found: Mapping[str, Any]) -> InstructionRow:
    """A row of texts. A field that is missing, null or empty is the same: nothing."""
    texts = {field: _text(found.get(field), field) for field in REQUIRED}
    for field, required in REQUIRED.items():
        if required and not texts[field]:
            raise _UnusableError(f"without an {field}")
    return texts


def _text(value: object, field: str) -> str:
    """A field's text: numbers and booleans as JSON spells them. Anything else is not text."""
    if value is None:
        return ""
    if isinstance(value, str):
        try:
            value.encode()  # JSON can spell halves of surrogate pairs, which are not text
        except UnicodeEncodeError as error:
            raise _UnusableError(f"whose {field} is not valid Unicode") from error
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise _UnusableError(f"whose {field} is not a finite number")
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    kind = {"list": "a list", "dict": "an object"}.get(type(value).__name__, f"of type {type(value).__name__}")
    raise _UnusableError(f"whose {field} is {kind}")


def _in_words(reasons: Counter[str], first: str) -> str:
    counted = ", ".join(f"{number:,} {reason}" for reason, number in reasons.most_common())
    total = reasons.total()
    return f"{total:,} {'row' if total == 1 else 'rows'} left out: {counted}; first: {first}"
