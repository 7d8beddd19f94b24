"""Rows of data sets in their authors' own form, converted to the schema that they have at the hub."""

import json
from typing import Any

from shared.errors import UserError


def to_hub_schema(row: dict[str, Any]) -> dict[str, Any]:
    """A row as lm-eval's tasks expect it; one that is in no known other form is left as it is.

    ARC and OpenBookQA put question and choices into one object (`question: {stem, choices: [{text, label}]}`), BoolQ's
    authors say `answer: true` where SuperGLUE says `label: 1`.
    """
    changed = dict(row)
    question = row.get("question")
    if isinstance(question, dict) and "stem" in question and "choices" in question:
        changed["question"] = changed["question_stem"] = question["stem"]
        changed["choices"] = question["choices"]
    choices = changed.get("choices")
    if isinstance(choices, list) and choices and all(isinstance(choice, dict) for choice in choices):
        changed["choices"] = {field: [choice.get(field) for choice in choices] for field in ("text", "label")}
    if isinstance(row.get("answer"), bool) and "passage" in row and "label" not in row:
        changed["label"] = int(row["answer"])
    return changed


def require_text(row: dict[str, Any], place: str) -> None:
    """Raise UserError for halves of surrogate pairs, which JSON can spell and which are not text."""
    for field, value in row.items():
        try:
            json.dumps(value, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"{place}: {field} is not valid Unicode (a lone surrogate); fix or remove the row"
            ) from error
