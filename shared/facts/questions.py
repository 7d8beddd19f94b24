"""Multiple-choice questions in the schema of `allenai/ai2_arc`."""

from __future__ import annotations

from typing import Literal, TypedDict

from shared.facts.fact_table import FactSplit
from shared.facts.splits import facts_of, shuffled, wrong_answers
from shared.facts.tables import TABLES

Label = Literal["A", "B", "C", "D"]
LABELS: tuple[Label, ...] = ("A", "B", "C", "D")


class Choices(TypedDict):
    """The answers to choose from."""

    text: list[str]
    label: list[Label]


class Question(TypedDict):
    """One item: a question, four choices, and the label of the only right one."""

    id: str
    question: str
    choices: Choices
    answerKey: Label


def questions(split: FactSplit) -> list[Question]:
    """All questions of a split, mixed: the first n of them are a fair sample."""
    items = {}
    for table in TABLES:
        for number, fact in enumerate(facts_of(table, split)):
            identifier = f"{table.kind.replace(' ', '-')}-{split}-{number}"
            items[identifier] = (table.question(fact), fact.answer, wrong_answers(table, fact, split)[:3])

    # The right answers take turns before the last shuffle, so that the positions are balanced without a pattern.
    turns = shuffled(list(items), "positions")
    position = {identifier: turn % len(LABELS) for turn, identifier in enumerate(turns)}
    result: list[Question] = []
    for identifier in shuffled(turns, "order"):
        question, answer, wrong = items[identifier]
        texts = [*wrong[: position[identifier]], answer, *wrong[position[identifier] :]]
        choices: Choices = {"text": texts, "label": list(LABELS)}
        result.append(
            {"id": identifier, "question": question, "choices": choices, "answerKey": LABELS[position[identifier]]}
        )
    return result
