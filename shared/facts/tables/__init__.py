"""The facts themselves."""

from shared.facts.tables import animals, geography, language, nature, people, things

TABLES = (
    *geography.TABLES,
    *language.TABLES,
    *animals.TABLES,
    *things.TABLES,
    *people.TABLES,
    *nature.TABLES,
)

__all__ = ["TABLES"]
