"""Rows as texts of which parts are learnt: Alpaca's prompt, a conversation by the model's chat template, plain text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from services.trainer.row_formats import ASSISTANT, UnusableError
from shared.errors import UserError, first_line
from shared.supernet.tokenizer import TEMPLATE_DATE
from shared.text import shortened

PROMPT = (
    "Below is an instruction that describes a task{paired}. "
    "Write a response that appropriately completes the request.\n\n"
)
PAIRED = ", paired with an input that provides further context"
"""Alpaca's own prompt (Taori et al., 2023)."""

Span = tuple[int, int]
"""Where a part begins, and where what follows it does."""


@dataclass(frozen=True)
class Passage:
    """A text with the spans of its characters that are learnt, in their order.

    `complete`: it spells out the special tokens at its beginning and end too, as chat templates do. `divisible`: it may
    be cut into parts, each of which is read by itself.
    """

    text: str
    learnt: tuple[Span, ...]
    complete: bool = False
    divisible: bool = False


class Passages:
    """Makes passages of rows, for a tokenizer's model."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._template: Callable[..., str] | None = None

    def of(self, row: Mapping[str, Any]) -> list[Passage]:
        """One, or several where a conversation makes them.

        Raises UnusableError for a conversation that the model's template doesn't take, and UserError where the model
        has none.
        """
        if "messages" in row:
            self._template = self._template or _chat_template(self._tokenizer)
            return conversation(row["messages"], self._template)
        if "text" in row:
            return [Passage(row["text"], ((0, len(row["text"])),), divisible=True)]
        prompt = _prompt(row)
        text = prompt + row["output"]
        return [Passage(text, ((len(prompt), len(text)),))]


def _prompt(row: Mapping[str, str]) -> str:
    prompt = PROMPT.format(paired=PAIRED if row["input"] else "") + f"### Instruction:\n{row['instruction']}\n\n"
    if row["input"]:
        prompt += f"### Input:\n{row['input']}\n\n"
    return prompt + "### Response:\n"


def conversation(messages: Sequence[Mapping[str, str]], render: Callable[..., str]) -> list[Passage]:
    """A conversation as one text, of which each answer of the assistant is learnt: all that a template writes of it
    after what it writes to ask for it, which includes how it ends.

    Some templates write an answer otherwise once others follow it: they drop its reasoning, as Qwen3's, or put the
    system's message elsewhere. Then each answer makes a text of its own, with what was said before it: that is what the
    model reads when it is used.

    Raises UnusableError where the template can't be applied, or writes something else before an answer than it does to
    ask for it.
    """
    texts: list[str] = []
    spans: list[Span] = []
    for place, message in enumerate(messages):
        if message["role"] == ASSISTANT:
            texts.append(render(messages[: place + 1]))
            spans.append((_begin(texts[-1], messages[:place], render), len(texts[-1])))
    if all(texts[-1].startswith(text) for text in texts):
        return [Passage(texts[-1], tuple(spans), complete=True)]
    return [Passage(text, (span,), complete=True) for text, span in zip(texts, spans, strict=True)]


def _begin(text: str, before: Sequence[Mapping[str, str]], render: Callable[..., str]) -> int:
    """Where in a text the answer begins that it ends with. What asks for the answer may promise more than there is of
    it, reasoning for instance; so it may be cut short, but not what was said before."""
    asked = render(before, add_generation_prompt=True)
    if text.startswith(asked):
        return len(asked)
    if text.startswith(render(before)):
        pairs = enumerate(zip(text, asked, strict=False))
        return next((place for place, (one, other) in pairs if one != other), min(len(text), len(asked)))
    raise UnusableError("the model's chat template doesn't write answers where it asks for them")


def _chat_template(tokenizer: PreTrainedTokenizerBase) -> Callable[..., str]:
    """From messages to their text. Raises UserError where the tokenizer has no template."""
    there = tokenizer.chat_template
    if not there or (isinstance(there, dict) and "default" not in there):
        lacks = "no chat template" if not there else f"no default chat template, only {', '.join(sorted(there))}"
        raise UserError(
            f"training.data: its rows are chats, but the tokenizer of {tokenizer.name_or_path} has {lacks}; name a "
            "chat model, or put its chat_template.jinja beside the weights"
        )

    def render(messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = False) -> str:
        try:
            return str(
                tokenizer.apply_chat_template(
                    [dict(message) for message in messages],
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    strftime_now=TEMPLATE_DATE.strftime,
                )
            )
        except Exception as error:  # templates are programs, and may fail in any way; none is a bug of ours
            raise UnusableError(
                f"the model's chat template can't be applied to them ({shortened(first_line(error))})"
            ) from error

    return render
