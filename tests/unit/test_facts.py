"""The built-in benchmark and instruction set."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from itertools import combinations
from typing import get_args

import pytest

from shared.facts import FactSplit, instructions, questions
from shared.facts.fact_table import Fact, FactTable
from shared.facts.splits import facts_of, shuffled
from shared.facts.tables import TABLES

SPLITS: tuple[FactSplit, ...] = get_args(FactSplit)
EVALUATED: tuple[FactSplit, ...] = ("search", "report")
each_split = pytest.mark.parametrize("split", SPLITS)


def _facts_by_question(split: FactSplit) -> dict[str, tuple[FactTable, Fact]]:
    return {table.question(fact): (table, fact) for table in TABLES for fact in facts_of(table, split)}


@each_split
def test_every_question_has_the_schema_of_arc(split: FactSplit) -> None:
    for item in questions(split):
        assert list(item) == ["id", "question", "choices", "answerKey"]
        assert isinstance(item["id"], str) and item["question"].strip() == item["question"]
        assert item["choices"]["label"] == ["A", "B", "C", "D"]
        assert len(item["choices"]["text"]) == 4 and all(item["choices"]["text"])
        assert item["answerKey"] in item["choices"]["label"]


def test_the_parts_are_large_enough() -> None:
    assert len(questions("train")) >= 300
    assert len(questions("search")) >= 250
    assert len(questions("report")) >= 350


def test_ids_and_question_texts_are_unique_over_all_parts() -> None:
    items = [item for split in SPLITS for item in questions(split)]
    assert len({item["id"] for item in items}) == len(items)
    assert len({item["question"] for item in items}) == len(items)


def test_no_fact_is_in_two_parts() -> None:
    for table in TABLES:
        splits = [{fact.subject for fact in facts_of(table, split)} for split in SPLITS]
        assert all(not one & other for one, other in combinations(splits, 2))
        assert set().union(*splits) == {fact.subject for fact in table.facts}


def test_no_fact_is_told_by_two_rows_even_the_other_way_round() -> None:
    told = [frozenset((fact.subject, fact.answer)) for table in TABLES for fact in table.facts]
    assert [pair for pair, times in Counter(told).items() if times > 1] == []


def test_every_part_has_the_same_mixture_of_kinds() -> None:
    for table in TABLES:
        train, search, report = (len(facts_of(table, split)) / len(questions(split)) for split in SPLITS)
        assert train == pytest.approx(search, abs=0.005)
        assert train == pytest.approx(report, abs=0.005)


@each_split
def test_every_question_has_exactly_one_right_answer(split: FactSplit) -> None:
    facts = _facts_by_question(split)
    for item in questions(split):
        _, fact = facts[item["question"]]
        right = [
            label
            for label, text in zip(item["choices"]["label"], item["choices"]["text"], strict=True)
            if fact.accepts(text)
        ]
        assert right == [item["answerKey"]], item


@each_split
def test_no_choice_is_offered_twice_or_repeats_the_subject(split: FactSplit) -> None:
    facts = _facts_by_question(split)
    for item in questions(split):
        choices = {text.lower() for text in item["choices"]["text"]}
        _, fact = facts[item["question"]]
        assert len(choices) == 4
        assert not choices & ({fact.subject.lower()} - {fact.answer.lower()})


@each_split
def test_the_positions_of_the_right_answers_are_balanced(split: FactSplit) -> None:
    counts = Counter(item["answerKey"] for item in questions(split))
    assert max(counts.values()) - min(counts.values()) <= 1


@each_split
def test_the_first_hundred_questions_are_of_many_kinds(split: FactSplit) -> None:
    assert len({item["id"].split(f"-{split}-")[0] for item in questions(split)[:100]}) >= 20


def test_every_instruction_has_the_schema_of_alpaca() -> None:
    for row in instructions():
        assert list(row) == ["instruction", "input", "output"]
        assert row["instruction"] and row["output"]


def test_there_are_many_different_instructions() -> None:
    rows = instructions()
    assert len(rows) >= 2000
    assert len({(row["instruction"], row["input"]) for row in rows}) == len(rows)
    assert len({row["instruction"] for row in rows}) >= 500


def test_no_instruction_asks_or_states_an_evaluated_fact() -> None:
    text = "\n".join("\n".join(map(str, row.values())) for row in instructions()).lower()
    for split in EVALUATED:
        for question, (table, fact) in _facts_by_question(split).items():
            assert question.lower() not in text
            assert table.statement(fact).lower() not in text


def test_the_answers_of_the_instructions_are_those_of_the_facts() -> None:
    facts = _facts_by_question("train")
    asked = [row for row in instructions() if row["instruction"] in facts]
    assert len(asked) == len(facts)
    for row in asked:
        _, fact = facts[row["instruction"]]
        assert row["output"].rstrip(".").lower() == fact.answer.rstrip(".").lower()


def test_shuffling_is_the_same_on_every_machine() -> None:
    assert shuffled(["a", "b", "c", "d", "e", "f"], "seed") == ["a", "f", "b", "c", "e", "d"]


def test_every_process_makes_the_same_data_and_needs_no_torch() -> None:
    program = (
        "import hashlib, sys\n"
        "from shared.facts import instructions, questions\n"
        "data = [questions(split) for split in ('train', 'search', 'report')], instructions()\n"
        "assert 'torch' not in sys.modules\n"
        "print(hashlib.sha256(repr(data).encode()).hexdigest())\n"
    )
    digests = {
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    }
    assert len(digests) == 1
