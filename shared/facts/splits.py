"""Cutting the facts into splits of which no two share a fact."""

from __future__ import annotations

import hashlib
from typing import get_args

from shared.facts.fact_table import Fact, FactSplit, FactTable

_SHARES: dict[FactSplit, float] = {"train": 0.40, "search": 0.25, "report": 0.35}


def shuffled(values: list[str], seed: str) -> list[str]:
    """An order that is arbitrary, yet the same on every machine and Python version."""
    return sorted(values, key=lambda value: hashlib.sha256(f"{seed}\n{value}".encode()).digest())


def facts_of(table: FactTable, split: FactSplit) -> list[Fact]:
    """The table's facts which belong to a split; each kind is cut in the same proportions."""
    by_subject = {fact.subject: fact for fact in table.facts}
    order = shuffled(list(by_subject), f"part of {table.kind}")
    start = 0.0
    for each in get_args(FactSplit):
        end = start + _SHARES[each] * len(order)
        if each == split:
            return [by_subject[subject] for subject in order[round(start) : round(end)]]
        start = end
    raise ValueError(f"unknown split {split!r}")


def wrong_answers(table: FactTable, fact: Fact, split: FactSplit) -> list[str]:
    """Everything that is plausible but wrong for a fact, in a fixed arbitrary order.

    Answers are borrowed within the split only, lest an evaluated answer be trained against as a wrong choice.
    """
    if table.wrong:
        pool = list(table.wrong(fact.subject))
    else:
        others = facts_of(table, split)
        if table.confusable:
            place = {each: number for number, each in enumerate(table.facts)}
            others = sorted(others, key=lambda other: abs(place[other] - place[fact]))[:7]
        pool = [other.answer for other in others]
    wrong = {answer for answer in pool if answer != fact.subject and not fact.accepts(answer)}
    return shuffled(sorted(wrong), f"wrong for {table.kind} {fact.subject}")
