"""A study's findings as Markdown."""

import re

import pytest

from services.reporting import wording
from services.reporting.study.study_data import StudyContent
from services.reporting.study.text import study_text
from tests.support.study_content import study_content

HOSTILE = "a|b\n# <script>alert(1)</script> `x` \\| _y_"


@pytest.fixture(scope="module")
def content() -> StudyContent:
    return study_content()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def tables_of(text: str) -> list[list[list[str]]]:
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    return [[cells(line) for line in block if not line.startswith("|---")] for block in blocks]


def test_every_claim_and_every_network_at_a_size_has_its_row(content: StudyContent) -> None:
    text = study_text(content)
    tasks, supernets, claims, *rest = tables_of(text)
    sizes, (heuristics, *transfers) = rest[: len(content.equal_size)], rest[len(content.equal_size) :]
    built = [network.label for network in content.networks if network.kind == "heuristic"]
    assert built and [row[0].replace("\\", "") for row in heuristics[1:]] == built
    assert [row[0].replace("\\", "") for row in tasks[1:]] == [task.name for task in content.tasks]
    assert [row[0] for row in supernets[1:]] == [each.name for each in content.supernets]
    assert [row[2].strip("*") for row in claims[1:]] == [claim.verdict for claim in content.claims]
    assert len(transfers) == len(content.transfer)
    for matrix, shown in zip(content.transfer, transfers, strict=True):
        assert [row[0].replace("\\", "") for row in shown[1:]] == list(matrix.chosen_on)
        sizes_of_rows = [matrix.sizes[on].parameters for on in matrix.chosen_on]
        assert [row[1] for row in shown[1:]] == [_size(each) for each in sizes_of_rows]
    for table, shown in zip(content.equal_size, sizes, strict=True):
        assert [row[0].replace("\\", "") for row in shown[1:]] == [content.network(key).label for key in table.networks]
        for key, row in zip(table.networks, shown[1:], strict=True):
            by_task = content.network(key).by_task
            given = [by_task.get(task.name) for task in content.tasks]
            assert row[4:-1] == ["" if each is None else wording.percentage(each.accuracy) for each in given]


def test_names_are_text_whatever_is_in_them(content: StudyContent) -> None:
    changed = content.model_copy(
        update={
            "name": HOSTILE,
            "model": HOSTILE,
            "networks": tuple(row.model_copy(update={"label": HOSTILE}) for row in content.networks),
            "claims": tuple(claim.model_copy(update={"evidence": HOSTILE}) for claim in content.claims),
        }
    )
    text = study_text(changed)
    assert "<script" not in text
    assert all(
        line.startswith(("#", "|", "Super-network", "The margin", "Accuracy", str(content.networks_on_report_items)))
        or not line
        for line in text.splitlines()
    )
    for table in tables_of(text):
        assert len({len(row) for row in table}) == 1


def _size(parameters: int | None) -> str:
    assert parameters is not None
    return wording.parameters(parameters).replace(wording.SPACE, " ")
