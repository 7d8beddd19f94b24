"""The formats of rows that can be trained on: Alpaca's instructions, chats, and plain text.

Whatever a row is called elsewhere, here it is one of three: `{instruction, input, output}`, all texts; `{messages}`,
a list of `{role, content}` that ends with an answer of the assistant; or `{text}`.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from shared.text import shown

TrainingRow = dict[str, Any]

ASSISTANT = "assistant"
"""The role whose messages are learnt."""
SPEAKERS = {"system": "system", "human": "user", "user": "user", "gpt": ASSISTANT, "chatgpt": ASSISTANT}
SPEAKERS |= {ASSISTANT: ASSISTANT}
"""The roles, as chat templates know them, of those who speak in ShareGPT's turns."""


class UnusableError(Exception):
    """A row that can't be trained on; the message says why, and continues a number of such rows ("3 rows ...")."""


@dataclass(frozen=True)
class RowFormat:
    """A format by the fields without which a row has it not; `content` is what rows have in it, for messages."""

    fields: tuple[str, ...]
    content: str
    read: Callable[[Mapping[str, Any]], TrainingRow]
    """What is trained on of a row; raises UnusableError."""

    def has(self, row: Mapping[str, Any]) -> bool:
        """Whether a row says something in each of the fields."""
        return all(row.get(field) is not None for field in self.fields)

    def is_named_in(self, row: Mapping[str, Any]) -> bool:
        """Whether a row has all of the fields, though there may be nothing in them."""
        return all(field in row for field in self.fields)

    def lacks(self, row: Mapping[str, Any]) -> bool:
        """Whether a row has none of the fields, not even empty."""
        return not any(field in row for field in self.fields)


def format_of(row: Mapping[str, Any]) -> RowFormat | None:
    """The first of FORMATS that a row has; None if it has none."""
    return next((one for one in FORMATS if one.has(row)), None)


def format_of_all(rows: Sequence[Mapping[str, Any]]) -> RowFormat | None:
    """The first of FORMATS that some row has; where none has any, the first whose fields some row names."""
    had = next((one for one in FORMATS if any(one.has(row) for row in rows)), None)
    return had or next((one for one in FORMATS if any(one.is_named_in(row) for row in rows)), None)


def _instruction(row: Mapping[str, Any]) -> TrainingRow:
    """A field that is missing, null or empty is the same: nothing."""
    texts = {field: _text(row.get(field), field) for field in ("instruction", "input", "output")}
    for field in ("instruction", "output"):
        if not texts[field]:
            raise UnusableError(f"without an {field}")
    return texts


def _plain_text(row: Mapping[str, Any]) -> TrainingRow:
    text = _text(row.get("text"), "text")
    if not text.strip():
        raise UnusableError("without a text")
    return {"text": text}


def _conversation(row: Mapping[str, Any], field: str) -> TrainingRow:
    """Messages up to the last answer: nothing is learnt of what follows it."""
    found = row.get(field)
    if not found:
        raise UnusableError(f"without {field}")
    if not isinstance(found, list):
        raise UnusableError(f"whose {field} are no list")
    messages = [_message(each, field) for each in found]
    last = max((place for place, each in enumerate(messages) if each["role"] == ASSISTANT), default=None)
    if last is None:
        raise UnusableError("without an answer of the assistant")
    return {"messages": messages[: last + 1]}


def _message(found: object, field: str) -> dict[str, str]:
    """A message with its names as chats have them or as ShareGPT has them. What a role may be called is left to the
    chat template, but ShareGPT's names none knows."""
    if not isinstance(found, dict):
        raise UnusableError(f"with {field} that are no objects")
    role, speaker = _text(found.get("role"), "role"), _text(found.get("from"), "from")
    if speaker and speaker not in SPEAKERS:
        raise UnusableError(f"with {field} from {shown(speaker, 20)}")
    role = SPEAKERS[speaker] if speaker else role
    if not role:
        raise UnusableError(f"with {field} without role")
    if found.get("tool_calls"):
        raise UnusableError("with tool calls")
    content = found.get("value") if found.get("content") is None else found["content"]
    if content is None:
        raise UnusableError(f"with {field} without content")
    text = _text(content, "content")
    if role == ASSISTANT and not text:
        raise UnusableError("with an empty answer of the assistant")
    return {"role": role, "content": text}


FORMATS = (
    RowFormat(("instruction", "output"), "an instruction and an output", _instruction),
    RowFormat(("messages",), "messages", partial(_conversation, field="messages")),
    RowFormat(("conversations",), "conversations", partial(_conversation, field="conversations")),
    RowFormat(("text",), "a text", _plain_text),
)
"""In this order, as data sets often hold the same again as a text: Alpaca's own does."""


def _text(value: object, field: str) -> str:
    """A field's text: numbers and booleans as JSON spells them. Anything else is not text."""
    if value is None:
        return ""
    if isinstance(value, str):
        try:
            value.encode()  # JSON can spell halves of surrogate pairs, which are not text
        except UnicodeEncodeError as error:
            raise UnusableError(f"whose {field} is not valid Unicode") from error
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise UnusableError(f"whose {field} is not a finite number")
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    kind = {"list": "a list", "dict": "an object"}.get(type(value).__name__, f"of type {type(value).__name__}")
    raise UnusableError(f"whose {field} is {kind}")
