"""The built-in benchmark and instruction set: plain facts, for machines without other data."""

from shared.facts.instructions import Instruction, instructions
from shared.facts.questions import Question, questions
from shared.facts.table import FactSplit

__all__ = ["FactSplit", "Instruction", "Question", "instructions", "questions"]
