"""What the sections and values of search and study files have in common."""

import re
from collections.abc import Iterator
from typing import Annotated, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticKnownError

T = TypeVar("T")

MOST = 2**63 - 1
"""Of a whole number: what every program can count."""
ONE, SEVERAL = "(one)", "(several)"
"""Of a key that holds one value or a list of them: pydantic's names of the two, which are no steps of a key's path."""
LONGEST_NAME = 100
"""Characters that a new search's name may have: files, queues and containers are named after it, and longer."""


class Section(BaseModel):
    """A part of a search or study file: immutable, a key that isn't known is an error, and numbers are finite.

    The descriptions of its fields (of a field that is a section: the section's docstring) are these files' only
    documentation: `nasfarm init`, the options' help, the JSON Schema and the README all show them. The first sentence
    stands alone where there is little room.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def alternatives(cls, key: str) -> "tuple[type[Section], ...]":
        """The sections that a key holds one of, or a list of; none for other values."""
        kinds, found = [cls.model_fields[key].annotation], []
        while kinds:
            kind = kinds.pop(0)
            if isinstance(kind, type) and issubclass(kind, Section):
                found.append(kind)
            kinds.extend(get_args(kind))
        return tuple(found)

    @classmethod
    def section(cls, key: str) -> "type[Section] | None":
        """The section that a key holds, or a list of; None for other values, and where there are several to choose
        from."""
        alternatives = cls.alternatives(key)
        return alternatives[0] if len(alternatives) == 1 else None

    @classmethod
    def lists(cls, key: str) -> bool:
        """Whether a key holds a list."""
        return get_origin(cls.model_fields[key].annotation) is tuple

    @classmethod
    def sections(cls) -> "Iterator[type[Section]]":
        """The sections within this one, however deep, each once."""
        found: dict[type[Section], None] = {}
        for key in cls.model_fields:
            for section in cls.alternatives(key):
                found |= dict.fromkeys((section, *section.sections()))
        yield from found

    @classmethod
    def described(cls, key: str) -> str:
        """What a key means."""
        section = cls.section(key)
        return cls.model_fields[key].description or " ".join((section.__doc__ or "").split() if section else ())

    @classmethod
    def summary(cls, key: str) -> str:
        """What a key means, in one sentence."""
        return first_sentence(cls.described(key))


def first_sentence(text: str) -> str:
    """What stands before the first full stop that ends a sentence, with it."""
    first, stop, _ = text.partition(". ")
    return f"{first}." if stop else first


DIGITS = "[0-9]+(_[0-9]+)*"
WHOLE_TEXT = rf"\s*[-+]?{DIGITS}(\.0+)?\s*"
REAL_TEXT = (
    r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*"
    rf"|[-+]?({DIGITS}\.?({DIGITS})?|\.{DIGITS})([eE][-+]?{DIGITS})?"
)
"""Numbers that are written as text: in quotes, or as `1_000`, which is text in YAML 1.2."""


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("should be a number")
    return value


def _spelt(pattern: str, kind: Literal["int_parsing", "float_parsing"]) -> BeforeValidator:
    """Of numbers that are written as text, those that people write; pydantic takes `0-1` for -1."""

    def check(value: object) -> object:
        if isinstance(value, str) and not re.fullmatch(pattern, value, re.ASCII):
            raise PydanticKnownError(kind)
        return value

    return BeforeValidator(check)


Whole = Annotated[int, Field(ge=-MOST, le=MOST), _spelt(WHOLE_TEXT, "int_parsing"), BeforeValidator(_no_boolean)]
Real = Annotated[float, _spelt(REAL_TEXT, "float_parsing"), BeforeValidator(_no_boolean)]
"""Numbers as people mean them. pydantic takes `true` for 1, which no one means; that it takes `1e3`, `1_000` or "200"
for whole numbers is as it should be."""


def distinct(choices: tuple[T, ...], what: str) -> tuple[T, ...]:
    """The choices. Raises ValueError where one is listed twice; `what` is what they are, such as `a task`."""
    if len(set(choices)) != len(choices):
        raise ValueError(f"{what} is listed twice")
    return choices
