"""Instructions in the schema of `tatsu-lab/alpaca`, made of the training split's facts only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

from shared.facts.fact_table import Fact, FactTable
from shared.facts.splits import facts_of, shuffled, wrong_answers
from shared.facts.tables import TABLES


class Instruction(TypedDict):
    """One row: what to do, what to do it with (often nothing), and how it is done."""

    instruction: str
    input: str
    output: str


_CHOOSE = (
    "Choose the right answer from the list.",
    "Answer the question with one of the options.",
    "Which of the options answers the question?",
)
_FULL_SENTENCE = (
    "Answer in a full sentence: {}",
    "{} Reply with a complete sentence.",
    "Please answer this question in one sentence. {}",
)
_JUDGE = ("Is this statement true or false?", "Decide whether the sentence is true.", "Say true or false.")
_CORRECT = ("Correct the mistake in the sentence.", "This statement is wrong. Put it right.", "Fix the error.")
_GAP = ("Fill in the blank.", "Complete the sentence with the missing words.", "What belongs in the gap?")
_ASK = ("Write a question that this sentence answers.", "Turn the statement into a question.")
_SORT = ("Sort these words alphabetically.", "Put the following list in alphabetical order.")
_QUIZ = ("Answer both questions.", "Reply to these two questions, one after the other.")


def instructions() -> list[Instruction]:
    """All rows, mixed."""
    rows = {f"{row['instruction']}\n{row['input']}": row for table in TABLES for row in _of_table(table)}
    return [rows[key] for key in shuffled(list(rows), "instructions")]


def _of_table(table: FactTable) -> Iterator[Instruction]:
    facts = facts_of(table, "train")
    for fact, following in zip(facts, [*facts[1:], facts[0]], strict=True):
        yield from _of_fact(table, fact)
        both = f"1. {table.question(fact)}\n2. {table.question(following)}"
        yield _row(_QUIZ, both, f"1. {_sentence(fact.answer)}\n2. {_sentence(following.answer)}")
    for start in range(0, len(facts) - 3, 2):
        subjects = [fact.subject for fact in facts[start : start + 4]]
        yield _row(_SORT, ", ".join(subjects), ", ".join(sorted(subjects, key=str.lower)))
    if table.grouped:
        yield from _of_groups(table, facts)


def _of_fact(table: FactTable, fact: Fact) -> Iterator[Instruction]:
    question, statement = table.question(fact), table.statement(fact)
    wrong = wrong_answers(table, fact, "train")
    false = table.statement(fact, wrong[-1])
    options = shuffled([fact.answer, *wrong[:3]], question)
    lettered = [f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=True)]

    yield {"instruction": question, "input": "", "output": _sentence(fact.answer)}
    yield {"instruction": _pick(_FULL_SENTENCE, question).format(question), "input": "", "output": statement}
    yield _row(_CHOOSE, f"{question}\nOptions: {', '.join(options)}", fact.answer)
    yield _row(_CHOOSE, "\n".join([question, *lettered]), lettered[options.index(fact.answer)])
    yield _row(_JUDGE, statement, "True.")
    yield _row(_JUDGE, false, f"False. {statement}")
    yield _row(_CORRECT, false, statement)
    yield _row(_ASK, statement, question)
    yield _row(_GAP, table.statement(fact, "____").replace("a ____", "a(n) ____"), fact.answer)


def _of_groups(table: FactTable, facts: list[Fact]) -> Iterator[Instruction]:
    groups: dict[str, list[str]] = {}
    for fact in facts:
        groups.setdefault(fact.answer, []).append(fact.subject)
    for answer, subjects in groups.items():
        others = shuffled([fact.subject for fact in facts if fact.answer != answer], answer)
        for start in range(len(subjects) - 1):
            few = subjects[start : start + 3]
            listed = ", ".join(few)
            yield {"instruction": f"Name the {table.kind} that these share.", "input": listed, "output": answer}
            odd = others[start % len(others)]
            yield {
                "instruction": f"Which one does not belong with the others? Look at the {table.kind}.",
                "input": ", ".join(shuffled([*few, odd], answer)),
                "output": odd,
            }


def _row(wordings: tuple[str, ...], given: str, output: str) -> Instruction:
    return {"instruction": _pick(wordings, given), "input": given, "output": output}


def _pick(wordings: tuple[str, ...], seed: str) -> str:
    return shuffled(list(wordings), seed)[0]


def _sentence(answer: str) -> str:
    text = answer[0].upper() + answer[1:]
    return text if text.endswith(".") else f"{text}."
