"""Multiple testing: p-values corrected for how many comparisons a report makes."""

from collections.abc import Iterator, Sequence
from typing import Any

from services.reporting.report_data import NetworkRow

Path = tuple[str, ...]
"""Where a comparison stands in a row: names of fields and keys."""


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of one family corrected for their number, by Holm's step-down procedure (1979): rejecting those
    below a level makes any false rejection at most as probable as the level."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def with_corrected_p_values(rows: Sequence[NetworkRow]) -> list[NetworkRow]:
    """The rows with corrected p-values. A family is all comparisons with the same network: over all items; task by
    task; in the mean over tasks."""
    result: list[Any] = list(rows)
    for family in _families(rows):
        p_values = [_found(result[index], path).p_value for index, path in family]
        for (index, path), value in zip(family, holm(p_values), strict=True):
            result[index] = _replaced(result[index], (*path, "corrected"), value)
    return result


def _families(rows: Sequence[NetworkRow]) -> Iterator[list[tuple[int, Path]]]:
    for against in ("versus_dense", "versus_base", "versus_random", "versus_original"):
        whole: list[list[Path]] = [[(against,)] for _ in rows]
        tasks: list[list[Path]] = [[("by_task", name, against) for name in row.by_task] for row in rows]
        macro: list[list[Path]] = [[("macro", against)] if row.macro else [] for row in rows]
        for paths in (whole, tasks, macro):
            family = [(index, path) for index, each in enumerate(paths) for path in each]
            yield [(index, path) for index, path in family if _found(rows[index], path) is not None]


def _found(part: Any, path: Path) -> Any:
    for name in path:
        part = part.get(name) if isinstance(part, dict) else getattr(part, name, None)
    return part


def _replaced(part: Any, path: Path, value: Any) -> Any:
    name, *rest = path
    new = _replaced(_found(part, (name,)), tuple(rest), value) if rest else value
    return {**part, name: new} if isinstance(part, dict) else part.model_copy(update={name: new})
