"""The transfer matrix as a table with shaded cells, and its comparisons."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.reporting import wording
from services.reporting.charts.shading import shade
from services.reporting.study.marks import searched_on, size_in_words
from services.reporting.study.page_tables import Table, comparison_table
from services.reporting.study.study_data import StudyContent, StudyRow, Transfer, TransferCell

LEVEL = 0.05


@dataclass(frozen=True)
class HeatCell:
    """An accuracy, below it the difference; `differs`: after correction, at the 5 % level."""

    shown: str
    difference: str
    shade: str
    differs: bool


@dataclass(frozen=True)
class HeatRow:
    """A network, `about` its size; `control`: none that was chosen."""

    name: str
    about: str
    cells: tuple[HeatCell, ...]
    control: bool = False


@dataclass(frozen=True)
class Matrix:
    """A transfer matrix, its controls below it."""

    key: str
    title: str
    tasks: tuple[str, ...]
    rows: tuple[HeatRow, ...]
    comparisons: Table


def transfer_matrices(content: StudyContent) -> tuple[Matrix, ...]:
    """Of each super-network at each size."""
    return tuple(_matrix(content, number, each) for number, each in enumerate(content.transfer))


def _matrix(content: StudyContent, number: int, transfer: Transfer) -> Matrix:
    compared = [cell.versus_own for cell in transfer.cells if cell.versus_own is not None]
    greatest = max((abs(each.difference) for each in compared), default=0.0)
    rows = [
        HeatRow(
            searched_on(aim),
            size_in_words(transfer.sizes[aim].parameters, transfer.sizes[aim].times_smaller),
            tuple(_cell(transfer.cell(aim, task), greatest, aim == task) for task in transfer.tasks),
        )
        for aim in transfer.chosen_on
    ]
    key = f"transfer-{number}"
    comparisons = comparison_table(f"{key}-compared", "Comparisons of the matrix", compared)
    controls = [
        *(
            _control(row.label, [row] * len(transfer.tasks), transfer.tasks, _size(row))
            for row in _whole(content, transfer)
        ),
        _control("random, as large as each task's own", _random(content, transfer), transfer.tasks),
    ]
    title = f"{transfer.supernet}, at least {transfer.times_smaller:g} times smaller"
    return Matrix(key, title, transfer.tasks, (*rows, *(row for row in controls if row.cells)), comparisons)


def _cell(cell: TransferCell, greatest: float, own: bool) -> HeatCell:
    shown = wording.percentage(cell.accuracy.accuracy if cell.accuracy else None)
    compared = cell.versus_own
    if compared is None:
        return HeatCell(shown, "its own" if own else "", "level", False)
    darkness = shade(compared.difference, greatest)
    return HeatCell(shown, wording.points(compared.difference), darkness, compared.corrected < LEVEL)


def _whole(content: StudyContent, transfer: Transfer) -> list[StudyRow]:
    """Base, and the dense super-network."""
    mine = [row for row in content.networks if row.supernet in (None, transfer.supernet)]
    return [row for row in mine if row.kind in ("base", "dense")]


def _size(row: StudyRow) -> str:
    return size_in_words(row.parameters, row.true_times_smaller)


def _random(content: StudyContent, transfer: Transfer) -> list[StudyRow | None]:
    """For each task the random network that is as large as the one chosen on it."""
    found = {
        row.chosen_on: row
        for row in content.networks
        if (row.kind, row.supernet, row.times_smaller) == ("random", transfer.supernet, transfer.times_smaller)
    }
    return [found.get(task) for task in transfer.tasks] if found else []


def _control(name: str, rows: Sequence[StudyRow | None], tasks: Sequence[str], about: str = "") -> HeatRow:
    found = (row.by_task.get(task) if row else None for row, task in zip(rows, tasks, strict=False))
    cells = tuple(HeatCell(wording.percentage(each.accuracy if each else None), "", "level", False) for each in found)
    return HeatRow(name, about, cells, control=True)
