"""A table: facts of one kind, and how to ask for and state one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

FactSplit = Literal["train", "search", "report"]


@dataclass(frozen=True)
class Fact:
    """One subject with its answer, and what would be right as well (and so can't be a wrong choice)."""

    subject: str
    answer: str
    also_right: frozenset[str] = frozenset()

    def accepts(self, answer: str) -> bool:
        """Whether `answer` is right for the subject."""
        return answer == self.answer or answer in self.also_right


@dataclass(frozen=True)
class FactTable:
    """Facts of one kind.

    The templates know `subject` and `answer`, and both with an article as `a_subject` and `a_answer`. Wrong answers are
    made by `wrong` or else borrowed from other facts: from the nearest in the list if it is `confusable`, that is, has
    similar facts side by side.
    """

    kind: str
    ask: str
    state: str
    text: str
    wrong: Callable[[str], tuple[str, ...]] | None = None
    grouped: bool = False
    confusable: bool = False

    @cached_property
    def facts(self) -> tuple[Fact, ...]:
        """The facts of `text`, in its order."""
        return tuple(_grouped(self.text) if self.grouped else _paired(self.text))

    def question(self, fact: Fact) -> str:
        """Ask for the answer of a fact."""
        return _fill(self.ask, fact.subject, fact.answer)

    def statement(self, fact: Fact, answer: str | None = None) -> str:
        """State a fact in a sentence, or claim another answer."""
        return _fill(self.state, fact.subject, fact.answer if answer is None else answer)


def _paired(text: str) -> list[Fact]:
    """Lines of `subject: answer | also right | ...; subject: answer ...`."""
    facts = []
    for row in text.replace("\n", ";").split(";"):
        if row.strip():
            subject, answers = row.split(":")
            answer, *also = (each.strip() for each in answers.split("|"))
            facts.append(Fact(subject.strip(), answer, frozenset(also)))
    return facts


def _grouped(text: str) -> list[Fact]:
    """Lines of `answer: subject, subject, ...`."""
    facts = []
    for line in filter(None, map(str.strip, text.splitlines())):
        answer, subjects = line.split(":")
        facts += [Fact(subject.strip(), answer) for subject in subjects.split(",")]
    return facts


def _fill(template: str, subject: str, answer: str) -> str:
    text = template.format(subject=subject, answer=answer, a_subject=_article(subject), a_answer=_article(answer))
    return text[0].upper() + text[1:]


def _article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
