"""Which controls a table lacks: what was chosen is held against the untouched base, its whole super-network, and a
random network as large."""

from collections.abc import Callable, Sequence

from services.reporting.study.study_data import FrontRow, StudyRow


def missing_controls(shown: Sequence[StudyRow], measured: Callable[[StudyRow], bool]) -> str:
    """In words, of the networks of a table and which of them are measured as it shows them; empty if none is missing or
    nothing was chosen."""
    there = [row for row in shown if measured(row)]
    chosen = [row for row in there if row.kind == "chosen"]
    controls = {(row.kind, row.supernet, row.chosen_on, row.times_smaller) for row in there}
    absent = [] if ("base", None, None, None) in controls else ["base"]
    for supernet in dict.fromkeys(row.supernet for row in chosen):
        absent += [] if ("dense", supernet, None, None) in controls else [f"{supernet}: dense"]
    for row in chosen:
        if ("random", row.supernet, row.chosen_on, row.times_smaller) not in controls:
            absent.append(f"a random network as large as {row.label}")
    return _note(absent if chosen else [])


def missing_random(rows: Sequence[FrontRow], random: Sequence[FrontRow]) -> str:
    """The same of a front, whose base and dense network are always measured."""
    there = {row.name for row in random}
    reported = [row.name for row in rows if row.report is not None]
    return _note([f"a random network as large as {name}" for name in reported if f"{name} random" not in there])


def _note(absent: Sequence[str]) -> str:
    return f"Controls that are not measured: {', '.join(absent)}." if absent else ""
