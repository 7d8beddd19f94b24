"""The built-in benchmark and instruction set: plain facts, for machines without other data."""

from shared.facts.fact_table import FactSplit
from shared.facts.instructions import Instruction, instructions
from shared.facts.questions import Question, questions

__all__ = ["FactSplit", "Instruction", "Question", "instructions", "questions"]
