"""Training data: where they come from, and which of their rows can be trained on."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from services.trainer.row_formats import FORMATS, TrainingRow, UnusableError, format_of, format_of_all
from shared import facts
from shared.digest import digest_json
from shared.environment import Environment
from shared.errors import UserError, first_line
from shared.files import is_file, user_path
from shared.rows import ENDINGS, LocatedRow, find_rows_file, hub_folders, located_rows
from shared.text import shortened, shown

ALPACA_HUB = "tatsu-lab/alpaca"

HUB_NAME = re.compile(r"(?P<dataset>\w[\w.-]*/\w[\w.-]*)(/(?P<config>[^/:]+))?(:(?P<split>.+))?")
"""A data set of the hub: OWNER/NAME, OWNER/NAME/CONFIGURATION, each perhaps with :SPLIT."""

OTHER_FORMATS = {
    frozenset({"instruction", "response"}): "it has Dolly's names: rename response to output, and context to input",
    frozenset({"prompt", "completion"}): "rename prompt to instruction, and completion to output",
    frozenset({"question", "answer"}): "rename question to instruction, and answer to output",
}
"""By the fields of data in other formats, how to convert them to Alpaca's."""
FIELDS_SHOWN = 8


@dataclass(frozen=True)
class Instructions:
    """Rows to be trained on (see `row_formats`), where they came from, and the digest of their content.

    `left_out`: a message about the rows that can't be trained on; empty where there are none.
    """

    rows: tuple[TrainingRow, ...]
    origin: str
    left_out: str = ""

    @property
    def digest(self) -> str:
        """Identity of the data."""
        return digest_json(self.rows)


def load_instructions(name: str, environment: Environment) -> Instructions:
    """Training data by the name that a search file gives it: `alpaca`, `plain_facts`, a file, or a data set of the hub.

    Raises UserError where it can't be loaded.
    """
    if name == "plain_facts":
        built_in = ((f"row {number}", row) for number, row in enumerate(facts.instructions(), start=1))
        return _usable(built_in, "the built-in instructions (plain facts)")
    if name in ("alpaca", ALPACA_HUB):
        return _alpaca(environment)
    path = user_path(name)
    if is_file(path):
        return _usable(located_rows(path), str(path))
    found = _hub_name(name)
    if found is None:
        raise UserError(
            f"training.data: {shown(name)} is neither 'alpaca', 'plain_facts', a file nor a data set of the hub "
            "(OWNER/NAME); change the search file"
        )
    return _of_hub(found, environment)


def hub_dataset(name: str, origin: str) -> str | None:
    """The id at the hub of data that a search file calls by a name, and that came from there or from a copy; None for
    what is built in or someone's file."""
    if name in ("alpaca", ALPACA_HUB):
        return ALPACA_HUB
    found = _hub_name(name)
    return None if found is None or origin == str(user_path(name)) else found["dataset"]


def _alpaca(environment: Environment) -> Instructions:
    if environment.data is not None:
        folder = environment.data / "alpaca"
        names = sorted({path.name.split(".jsonl")[0] for path in folder.glob("*.jsonl*")})
        files = [path for name in names if (path := find_rows_file(folder, name))]
        if files:
            return _usable((row for path in files for row in located_rows(path)), f"Alpaca from {folder}")
    try:
        found = _downloaded(ALPACA_HUB, None, "train")
    except Exception as error:  # the hub's client raises many kinds; none of them is a bug of ours
        raise UserError(
            "training.data: alpaca is neither in NASFARM_DATA nor can it be fetched from the hub; "
            "set NASFARM_DATA, or use plain_facts, the built-in data"
        ) from error
    return _usable(found, f"{ALPACA_HUB} from the hub")


def _of_hub(name: re.Match[str], environment: Environment) -> Instructions:
    """A data set from the directory that tasks' data are read from, in the same places, or from the hub."""
    dataset, config, split = name["dataset"], name["config"], name["split"] or "train"
    folders = [] if environment.data is None else [environment.data / each for each in hub_folders(dataset, config)]
    file = next((file for folder in folders if (file := find_rows_file(folder, split))), None)
    if file is not None:
        return _usable(located_rows(file), f"{name.group()} from {file}")
    try:
        found = _downloaded(dataset, config, split)
    except Exception as error:  # as above
        raise UserError(
            f"training.data: {shown(name.group())} is neither a file, nor in NASFARM_DATA, nor can it be fetched from "
            f"the hub ({shortened(first_line(error), 200)}); check the name (OWNER/NAME/CONFIGURATION:SPLIT), or name "
            "a file"
        ) from error
    return _usable(found, f"{name.group()} from the hub")


def _hub_name(name: str) -> re.Match[str] | None:
    """What a name says of the hub; None for the name of a file, which may look alike."""
    return None if name.endswith(ENDINGS) else HUB_NAME.fullmatch(name)


def _downloaded(dataset: str, config: str | None, split: str) -> list[LocatedRow]:
    from datasets import load_dataset  # slow to import, and only needed here

    rows = load_dataset(dataset, config, split=split)
    return [(f"{dataset} row {number}", row) for number, row in enumerate(rows, start=1)]


def _usable(rows: Iterable[tuple[str, Mapping[str, Any]]], origin: str) -> Instructions:
    """The rows that can be trained on, of rows with their places, and a message about the others.

    Raises UserError for rows of several formats, or of none, and if none can be trained on.
    """
    located = list(rows)
    chosen = format_of_all([row for _, row in located])
    if chosen is None:
        raise UserError(f"training.data: {_unknown(located, origin)}")
    kept: list[TrainingRow] = []
    reasons: Counter[str] = Counter()
    first = ""
    for place, row in located:
        if chosen.lacks(row) and (other := format_of(row)) is not None:
            raise UserError(
                f"training.data: {place} has {other.content}, but other rows have {chosen.content}; "
                "give all rows the same fields"
            )
        try:
            kept.append(chosen.read(row))
        except UnusableError as unusable:
            first = first or place
            reasons[str(unusable)] += 1
    left_out = _in_words(reasons, first) if reasons else ""
    if not kept:
        raise UserError(f"training.data: {origin} has no row with {chosen.content}; name another file ({left_out})")
    return Instructions(tuple(kept), origin, left_out)


def _unknown(rows: list[tuple[str, Mapping[str, Any]]], origin: str) -> str:
    """What is said of rows that have no format."""
    if not rows:
        return f"{origin} has no rows; name other data"
    place, row = rows[0]
    seen = {field for _, each in rows for field in each}
    remedy = next((remedy for fields, remedy in OTHER_FORMATS.items() if fields <= seen), "rename them")
    named = ", ".join(shortened(field, 20) for field in list(row)[:FIELDS_SHOWN]) or "none"
    needed = " or ".join(" and ".join(one.fields) for one in FORMATS)
    return f"{place} has the fields {named}, not {needed}; {remedy}"


def _in_words(reasons: Counter[str], first: str) -> str:
    counted = ", ".join(f"{number:,} {reason}" for reason, number in reasons.most_common())
    total = reasons.total()
    return f"{total:,} {'row' if total == 1 else 'rows'} left out: {counted}; first: {first}"
