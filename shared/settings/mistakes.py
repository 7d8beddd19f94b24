"""What is wrong with a value, in a person's words where pydantic has Python's."""

from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from shared.settings.values import ONE, SEVERAL
from shared.text import shortened, shown

LONGEST_REASON = 300
"""Characters of what is wrong with a value."""

WHOLE, REAL = "should be a whole number, such as 4", "should be a number, such as 0.5"
SECTION = "should be a section, with keys of its own (key: value)"
IN_WORDS = {
    "string_pattern_mismatch": "should be letters (A to Z), digits and . _ - only, a letter or digit first, "
    "such as smollm2-arc-easy",
    "tuple_type": "should be a list, such as [28, 26]",
    "list_type": "should be a list, such as [28, 26]",
    "too_short": "should have {min_length} or more entries",
    "int_type": WHOLE,
    "int_parsing": WHOLE,
    "int_parsing_size": WHOLE,
    "int_from_float": WHOLE,
    "float_type": REAL,
    "float_parsing": REAL,
    "finite_number": "should be a finite number, such as 0.5",
    "greater_than": "should be a number greater than {gt:g}",
    "greater_than_equal": "should be a number, {ge:g} or more",
    "less_than": "should be a number less than {lt:g}",
    "less_than_equal": "should be a number, {le:g} or less",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "string_type": "should be text; put it in quotes",
    "literal_error": "should be {expected}",
    "union_tag_invalid": "{discriminator} should be one of {expected_tags}, not {tag!r}",
    "union_tag_not_found": "{discriminator}: missing; add it",
    "model_type": SECTION,
    "model_attributes_type": SECTION,
    "dict_type": SECTION,
    "json_invalid": "not JSON ({error})",
}
"""By pydantic's kinds of error: what is wrong, with an example."""


def explain(error: ValidationError) -> str:
    """The first problem of a validation in one line, with the field's path."""
    problem = error.errors(include_url=False)[0]
    field = ".".join(shortened(str(step)) for step in problem["loc"] if step not in (ONE, SEVERAL))
    if problem["type"] == "extra_forbidden":
        return f"{field}: unknown key; remove it or correct its spelling"
    if problem["type"] == "missing":
        return f"{field}: missing; add it"
    given = "" if isinstance(problem["input"], dict) else f" (it is {shown(problem['input'])})"
    return f"{f'{field}: ' if field else ''}{shortened(_in_words(problem), LONGEST_REASON)}{given}"


def _in_words(problem: ErrorDetails) -> str:
    """What a value should be, in a search file's own terms where pydantic has Python's."""
    words = IN_WORDS.get(problem["type"])
    if words is not None:
        return words.format(**_unquoted(problem.get("ctx", {})))
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{message[0].lower()}{message[1:]}"


def _unquoted(context: dict[str, Any]) -> dict[str, Any]:
    """What pydantic says of a problem, with the discriminator's name as a key has it: it puts it in quotes."""
    key = "discriminator"
    return {**context, key: context[key].strip("'")} if key in context else context
