"""The result of a search in one sentence that claims no more than the data show."""

from services.coordinator.report import wording
from services.coordinator.report.content import NetworkRow, ReportContent

LEVEL = 0.05
"""A difference whose p-value is below this is called significant."""


def key_result(content: ReportContent) -> str:
    """How much smaller a network may be before it is significantly worse than the dense one, or that none is."""
    smaller = [row for row in content.front if row.parameters < content.dense.parameters]
    if not smaller:
        return "No network on the front is smaller than the dense one: this search found nothing to shrink it to."
    compared = [row for row in smaller if row.versus_dense is not None]
    if not compared:
        return "The networks on the front were not compared with the dense network, so no loss or gain can be claimed."
    kept = [row for row in compared if not _significantly_worse(row)]
    if not kept:
        closest = max(compared, key=lambda row: row.report_accuracy)
        return (
            "Every network on the front that is smaller than the dense one is significantly worse than it "
            f"on the report part. The closest is {closest.name}: {_against_dense(closest, content.dense)}."
        )
    smallest = min(kept, key=lambda row: row.parameters)
    return (
        f"{smallest.name} is the smallest network on the front that is not significantly worse than the dense network "
        f"on the report part: {_against_dense(smallest, content.dense)}."
    )


def _significantly_worse(row: NetworkRow) -> bool:
    against = row.versus_dense
    return against is not None and against.difference < 0 and against.p_value < LEVEL


def _against_dense(row: NetworkRow, dense: NetworkRow) -> str:
    against = row.versus_dense
    if against is None:
        raise ValueError(f"{row.name} was not compared with the dense network")
    return (
        f"{row.ratio:.2f} times smaller in bytes ({wording.parameters(row.parameters)} parameters instead of "
        f"{wording.parameters(dense.parameters)}), with an accuracy of {wording.percent(row.report_accuracy)} against "
        f"{wording.percent(dense.report_accuracy)} ({wording.points(against.difference)} points, "
        f"{wording.p_equation(against.p_value)})"
    )
