"""What lm-eval's tasks find in a row of their data, checked: the prompt, the choices and which of them are right.

lm-eval takes its data to be those of the hub. Here labels may be spelt otherwise where their meaning is plain ("1",
1.0 and B are 1), and what can't be understood is refused by file, row and field.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from math import isfinite
from string import ascii_uppercase
from typing import Any

from jinja2 import Environment, TemplateError, nodes
from lm_eval.api.task import ConfigurableTask

from shared.errors import UserError, first_line
from shared.rows import LocatedRow
from shared.text import shortened, shown

UNLABELLED = ("-1", "", "None", "?")
"""How data sets mark that the right answer is kept secret."""


class CheckedTask(ConfigurableTask):  # type: ignore[misc]  # lm-eval is untyped
    """A task that raises UserError for a row that can't be used. `places` tell which row of which file it is, for each
    split that was loaded from a file."""

    places: dict[str, list[LocatedRow]]

    def doc_to_text(self, doc: dict[str, Any], doc_to_text: Any = None) -> Any:
        """The prompt; or, where the choices are prompts, the number of the right one."""
        template = self.config.doc_to_text if doc_to_text is None else doc_to_text
        with _naming_the_row(self, doc, template):
            found = super().doc_to_text(doc, doc_to_text)
        if found is None:
            raise bad_row(self, doc, f"{_shown(template)} is null")
        if getattr(self, "places", None):
            for field in _printed(template):
                if doc.get(field, "") is None:
                    raise bad_row(self, doc, f"{field} is null")
        return found

    def doc_to_choice(self, doc: dict[str, Any], doc_to_choice: Any = None) -> list[str]:
        """The choices; numbers as they are written."""
        template = self.config.doc_to_choice if doc_to_choice is None else doc_to_choice
        with _naming_the_row(self, doc, template):
            found = super().doc_to_choice(doc, doc_to_choice)
        if not isinstance(found, list) or not found:
            raise bad_row(self, doc, f"{_shown(template)} gives no choices")
        for number, choice in enumerate(found, start=1):
            if not isinstance(choice, str | int | float):
                raise bad_row(self, doc, f"choice {number} of {_shown(template)} is {_shown(choice)}, not a text")
        return [str(choice) for choice in found]

    def doc_to_target(self, doc: dict[str, Any], doc_to_target: Any = None) -> Any:
        """What is right: numbers of choices, or choices, where there are choices."""
        template = self.config.doc_to_target if doc_to_target is None else doc_to_target
        with _naming_the_row(self, doc, template):
            found = super().doc_to_target(doc, doc_to_target)
        if template != self.config.doc_to_target or not _names_a_choice(self, doc):
            return found
        choices = self.doc_to_choice(doc)
        if isinstance(found, list):
            return [_index(self, doc, each, choices, template) for each in found]
        return _index(self, doc, found, choices, template)


def _names_a_choice(task: ConfigurableTask, doc: dict[str, Any]) -> bool:
    """Whether the target is one of the choices: not where these are prompts, nor where the task has a notion of its own
    of what is right."""
    config = task.config
    if task.OUTPUT_TYPE != "multiple_choice" or config.doc_to_choice is None or callable(config.process_results):
        return False
    if task.fewshot_cfg.doc_to_choice not in (None, config.doc_to_choice):
        return False  # examples have choices of their own, and which is asked about isn't told
    return not isinstance(task.doc_to_text(doc), int)


def _index(task: ConfigurableTask, doc: dict[str, Any], found: object, choices: list[str], template: Any) -> object:
    """The number of a right choice, however it is named; a text that is a choice stays, as lm-eval has it."""
    if isinstance(found, str) and found in choices:
        return found
    text = str(found).strip()
    truth = {"false": 0, "true": 1}.get(text.lower()) if len(choices) == 2 else None
    number = _whole(text) if truth is None else truth
    if number is None and len(text) == 1:
        number = ascii_uppercase.find(text.upper())
        number = None if number < 0 else number
    if number is not None and 0 <= number < len(choices):
        return number
    if text in UNLABELLED:
        reason = f"has no right answer ({_shown(template)} is {_shown(found)}): choose a split with labels"
        raise bad_row(task, doc, reason, "")
    raise bad_row(
        task,
        doc,
        f"{_shown(template)} names the right answer {_shown(found)}, which is not one of the {len(choices)} choices",
    )


def _whole(text: str) -> int | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if isfinite(number) and number.is_integer() else None


@contextmanager
def _naming_the_row(task: ConfigurableTask, doc: dict[str, Any], template: Any) -> Iterator[None]:
    """Turn what templates and functions raise on a row that they don't expect into one line."""
    try:
        yield
    except UserError:
        raise
    except (TemplateError, LookupError, TypeError, ValueError, AttributeError, SyntaxError) as error:
        reason = f"{_shown(template)} fails on it ({type(error).__name__}: {first_line(error)})"
        raise bad_row(task, doc, reason) from error


def bad_row(task: ConfigurableTask, doc: dict[str, Any], reason: str, remedy: str = "fix or remove it") -> UserError:
    """The error of a row: which it is, and what is wrong with it."""
    return UserError(f"tasks.{task.config.task}: {_place(task, doc)}: {reason}{f'; {remedy}' if remedy else ''}")


def _place(task: ConfigurableTask, doc: dict[str, Any]) -> str:
    for places in getattr(task, "places", {}).values():
        for place, row in places:
            if all(field in doc and doc[field] == value for field, value in row.items()):
                return str(place)
    return f"the row {_shown(dict(doc))}"


def _shown(value: object) -> str:
    if callable(value):
        return f"{getattr(value, '__name__', 'a function')}()"
    return shortened(value) if isinstance(value, str) and value.isidentifier() else shown(value)


@lru_cache(maxsize=1024)
def _printed(template: object) -> tuple[str, ...]:
    """The fields that a template prints as they are, whatever they hold; none where it looks at them first."""
    if not isinstance(template, str):
        return ()
    if template.isidentifier():
        return (template,)
    try:
        parsed = Environment(autoescape=False).parse(template)  # noqa: S701 (nothing is made of it)
    except TemplateError:
        return ()
    if next(parsed.find_all(nodes.If), None) is not None:
        return ()
    printed = (child for output in parsed.find_all(nodes.Output) for child in output.nodes)
    return tuple(child.name for child in printed if isinstance(child, nodes.Name))
